package session_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/publish"
	"roomcast/proto"
)

// far delays the requests on a gateway's connection for reads, as if the NATS server were
// distant or busy. Reading the head of a room then takes longer than saying a message.
type far struct{ net.Conn }

func (c far) Write(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return c.Conn.Write(p)
}

// startFar starts a gateway whose reads of the log are slow.
func startFar(t *testing.T) *gateway {
	return start(t, func(s *settings) {
		s.dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			if strings.HasSuffix(name, "/read") {
				opts = append(opts, nats.SetCustomDialer(dialer(func(network, addr string) (net.Conn, error) {
					conn, err := net.Dial(network, addr)
					return far{conn}, err
				})))
			}
			return dialNATS(name, opts...)
		}
	})
}

// say sends a message without a session, as an HTTP request does, and returns the message's seq.
func (g *gateway) say(room, text string) uint64 {
	done := make(chan proto.Reply, 1)
	g.bridge.Say(publish.Say{Rights: proto.AllRights, Room: proto.MustRoom(room), From: proto.Identity{ID: "api"},
		Content: proto.Content{Kind: proto.Text, Body: []byte(text)}, Patience: 10 * time.Second}, func(r proto.Reply) { done <- r })
	r := <-done
	if r.Seq == 0 {
		g.t.Errorf("say %q in %s: %v", text, room, r.Refusal)
	}
	return r.Seq
}

// When a client has received the answer to its handshake, it receives every later message. This
// must be true in a new room, in a reopened room, and for messages from another gateway.
func TestClientIsInTheRoomWhenItsHandshakeIsAnswered(t *testing.T) {
	g, other := startFar(t), start(t)
	for _, protocol := range []string{"", "roomcast.v1"} {
		room := "answered" + protocol
		for round := range 5 {
			member := g.open("/room/"+room+"/", protocol)
			other.say(room, fmt.Sprintf("said %d", round))
			other.act(room, proto.ActClose, "for now")
			if protocol != "" {
				member.want(`{"hello":*`)
				member.want(fmt.Sprintf(`{*"text":"said %d"}`, round))
				member.want(`{*"kind":"closed"*}`)
			} else {
				member.want(fmt.Sprintf("* said %d", round))
			}
			member.want("close 4100 *for now")
			g.open("/room/"+room+"/", protocol).want("close 4100 *for now")
			other.act(room, proto.ActReopen, "")
		}
	}
}

// A handshake waits until its room is joined. The wait may end with a refusal, with an
// unreachable log, or because the gateway stops. Even then, the client receives the answer to its
// handshake, followed by a close code.
func TestHandshakeThatWaitsForItsRoomIsAlwaysAnswered(t *testing.T) {
	var away atomic.Bool
	g := start(t, func(s *settings) {
		s.session.TextPatience = time.Second
		s.loop.Loops = 1
		s.dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			return dialNATS(name, append(opts, nats.SetCustomDialer(dialer(func(network, addr string) (net.Conn, error) {
				conn, err := net.Dial(network, addr)
				return mute{conn, &away}, err
			})))...)
		}
	})
	away.Store(true)
	refused := g.text("/room/unreachable/")
	refused.want("close 4004 *")
	refused.nc.Close()
	eventually(t, "the session to end", func() bool { return g.sessions[0].Stats().Sockets.Load() == 0 })
	waiting := g.connect()
	waiting.write([]byte(handshakeOf("/room/unreachable/", "")))
	eventually(t, "the session to wait", func() bool { return g.sessions[0].Stats().Sockets.Load() == 1 })
	g.loops[0].Post(func() { g.sessions[0].Drain(10) })
	if got := waiting.status(); got != 101 {
		t.Errorf("got status %d, want 101", got)
	}
	waiting.want("close 1001 *")
	away.Store(false)
}

// mute is a connection that drops written bytes while away is set.
type mute struct {
	net.Conn
	away *atomic.Bool
}

func (c mute) Write(p []byte) (int, error) {
	if c.away.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Members join new rooms at random moments of a conversation that ends with a close. Each member
// must receive every message after its join, once and in order, and then the close.
func TestMembersThatJoinDuringTrafficMissNothing(t *testing.T) {
	const rooms, messages, members = 16, 40, 4
	g, other := startFar(t), start(t)
	for n := range rooms {
		room := fmt.Sprintf("midst%d", n)
		var begun atomic.Int64 // messages that a sender has begun to send
		var talk sync.WaitGroup
		talk.Go(func() {
			for i := range messages {
				begun.Store(int64(i + 1))
				other.say(room, fmt.Sprintf("said %d", i+1))
			}
		})
		var came [members]*client
		var first [members]int64 // the first message that was sent after the member's handshake was answered
		for i := range came {
			came[i] = g.text("/room/" + room + "/")
			first[i] = begun.Load() + 1
		}
		talk.Wait()
		other.act(room, proto.ActClose, "")
		for i, c := range came {
			shown := c.next()
			from := first[i] // the member may also receive a message sent during its join
			if _, n, ok := strings.Cut(shown, " said "); ok {
				if fmt.Sscan(n, &from); from > first[i] {
					t.Fatalf("member %d of %s was shown %s first, want message %d", i, room, shown, first[i])
				}
				for next := from + 1; next <= messages; next++ {
					c.want(fmt.Sprintf("* said %d", next))
				}
				shown = c.next()
			} else if from <= messages {
				t.Fatalf("member %d of %s was shown %s, want message %d", i, room, shown, from)
			}
			if !strings.HasPrefix(shown, "close 4100 ") {
				t.Fatalf("member %d of %s was shown %s, want to be closed with 4100", i, room, shown)
			}
		}
	}
}

// A session on /ws joins no room at first, so the parameters that say where a replay begins mean
// nothing there.
func TestSessionWithoutRoomIgnoresPositions(t *testing.T) {
	g := start(t)
	for _, query := range []string{"?since=abc", "?last=-1", "?since=1&last=1"} {
		g.json("/ws" + query).want(`{"hello":*`)
	}
}
