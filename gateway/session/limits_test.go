package session_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/limit"
	"roomcast/gateway/session"
	"roomcast/proto"
)

func TestFastJSONSessionIsRefused(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate = limit.Rate{PerSecond: 10, Burst: 5} })
	c := g.json("/room/rate/")
	c.want(`{"hello":*`)
	for i := range 7 {
		c.send(fmt.Sprintf(`{"id":%d,"signal":{"type":"t"}}`, i))
	}
	for i := range 5 {
		c.want(fmt.Sprintf(`{"id":%d,"ok":{}}`, i))
	}
	for i := 5; i < 7; i++ {
		c.want(fmt.Sprintf(`{"id":%d,"error":{"code":"rate_limited","message":"*","retry_ms":*}}`, i))
	}
	if n := g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Refusals(proto.RateLimited) }); n != 2 {
		t.Errorf("got %d refusals counted, want 2", n)
	}
	for range 200 {
		c.send(`{"signal":{"type":"t"}}`)
	}
	for {
		if got := c.next(); strings.HasPrefix(got, "close") {
			if !matches("close 4105 *", got) {
				t.Errorf("got %s, want close 4105", got)
			}
			break
		}
	}
}

// The gateway slows down a text session that sends too fast, and loses none of its messages. It
// closes the session only if the client keeps sending too fast.
func TestFastTextSessionIsSlowedDown(t *testing.T) {
	g := start(t, func(s *settings) {
		s.session.Rate = limit.Rate{PerSecond: 40, Burst: 10}
		s.session.FloodTime = 2 * time.Second
	})
	c := g.text("/room/textrate/")
	begun := time.Now()
	for i := range 40 {
		c.send(fmt.Sprint(i))
	}
	for i := range 40 {
		c.hears(fmt.Sprint(i))
	}
	if d := time.Since(begun); d < 500*time.Millisecond {
		t.Errorf("40 messages took %v, want them slowed down to 40/s after a burst of 10", d)
	}
	var flooding sync.WaitGroup
	defer flooding.Wait()
	flooding.Go(func() {
		for {
			if _, err := c.nc.Write(maskedFrame(0x81, "flood")); err != nil {
				return
			}
		}
	})
	for {
		if got := c.next(); strings.HasPrefix(got, "close") {
			if !matches("close 4105 *", got) {
				t.Errorf("got %s, want close 4105", got)
			}
			c.nc.Close()
			return
		}
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	g := start(t, func(s *settings) { s.caps = limit.CapsConfig{PerAddress: 2} })
	a, _ := g.text("/room/caps/"), g.text("/room/caps/")
	c := g.connect()
	c.write([]byte(handshakeOf("/room/caps/", "")))
	if got := c.status(); got != 503 {
		t.Errorf("got status %d, want 503", got)
	}
	c.nc.Close()
	a.nc.Close()
	eventually(t, "a place to be free", func() bool {
		c := g.connect()
		defer c.nc.Close()
		c.write([]byte(handshakeOf("/room/caps/", "")))
		return c.status() == 101
	})
}

// A connection that the loop has passed to net/http counts as a connection until it ends.
func TestCapsCountPlainHTTP(t *testing.T) {
	g := start(t, func(s *settings) { s.caps = limit.CapsConfig{PerAddress: 2} })
	ask := func() *client {
		c := g.connect()
		c.write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		return c
	}
	ask()
	ask()
	first, second := <-g.http, <-g.http
	if got := ask().status(); got != 503 {
		t.Errorf("got status %d, want 503", got)
	}
	first.Close()
	first.Close() // this close must not be counted twice
	eventually(t, "a place to be free", func() bool {
		c := g.connect()
		defer c.nc.Close()
		c.write([]byte(handshakeOf("/room/caps/", "")))
		return c.status() == 101
	})
	second.Close()
}

func TestRoomsOfASessionAreLimited(t *testing.T) {
	g := start(t, func(s *settings) { s.session.MaxRooms = 2 })
	c := g.json("/ws")
	c.want(`{"hello":*`)
	for i, want := range []string{`{"id":0,"ok":*`, `{"id":1,"ok":*`, `{"id":2,"error":{"code":"too_many",*`} {
		c.send(fmt.Sprintf(`{"id":%d,"join":{"room":"many%d"}}`, i, i))
		c.want(want)
	}
	c.send(`{"id":3,"leave":{"room":"many0"}}`)
	c.want(`{"id":3,"ok":{"room":"many0"}}`)
	c.send(`{"id":4,"join":{"room":"many2"}}`)
	c.want(`{"id":4,"ok":*`)
}

// The gateway sends a ping to a quiet connection, and closes the connection if no answer
// arrives.
func TestQuietConnectionsArePinged(t *testing.T) {
	g := start(t, func(s *settings) { s.session.PingAfter, s.session.PongTime = time.Second, 2*time.Second })
	c := g.text("/room/quiet/")
	for range 2 {
		m, err := c.read()
		if err != nil || m.op != 9 {
			t.Fatalf("got %v, %v, want a ping", m, err)
		}
		c.write(maskedFrame(0x8A, m.body))
	}
	if m, err := c.read(); err != nil || m.op != 9 {
		t.Fatalf("got %v, %v, want a ping", m, err)
	}
	c.want("close 4005 *")
	c.ended()
}

// Pings are sent at their interval, even if the time limit for an answer is longer than the
// interval. Otherwise a proxy could close the quiet connection.
func TestPingsKeepTheirInterval(t *testing.T) {
	g := start(t, func(s *settings) { s.session.PingAfter, s.session.PongTime = time.Second, 20*time.Second })
	c := g.text("/room/quiet/")
	for begun := time.Now(); time.Since(begun) < 6*time.Second; {
		asked := time.Now()
		m, err := c.read()
		if err != nil || m.op != 9 {
			t.Fatalf("got %v, %v, want a ping", m, err)
		}
		if quiet := time.Since(asked); quiet > 5*time.Second { // a generous limit for a busy machine
			t.Fatalf("quiet for %v, want about 1s", quiet)
		}
		c.write(maskedFrame(0x8A, m.body))
	}
}

// stuff sends n messages to a room. They are more than the buffers of a member that does not
// read.
func (g *gateway) stuff(sender *client, room string, n, size int) {
	g.t.Helper()
	for i := range n {
		say := fmt.Sprintf(`{"id":%d,"say":{"room":"%s","key":"%d","text":"%s"}}`, i, room, time.Now().UnixNano(), strings.Repeat("x", size))
		sender.send(say)
		for got := sender.next(); !strings.Contains(got, `"ok"`); got = sender.next() {
			if strings.Contains(got, `"error"`) { // on a busy machine, storing a message may take too long
				sender.send(say)
			}
		}
	}
}

// The gateway closes a client that reads nothing, with the code for slow clients. The other
// members do not notice it.
func TestClientThatReadsNothingIsClosed(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, func(s *settings) {
			s.session.Rate.PerSecond = 0
			s.session.SlowTime = 5 * time.Second // longer than a busy machine may delay the fast client
			s.session.Hub.RoomBytes = 64 << 10
			s.loop.SendBuffer = 4 << 10
		})
		room := fmt.Sprintf("stuck_%d", time.Now().UnixNano())
		stuck := []*client{g.text("/room/" + room + "/"), g.json("/room/" + room + "/")}
		for _, c := range stuck {
			c.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		fast := g.text("/room/" + room + "/")
		sender := g.json("/room/" + room + "/")
		sender.want(`{"hello":*`)
		for range 150 {
			g.stuff(sender, room, 1, 8000)
			fast.hears(strings.Repeat("x", 8000))
		}
		eventually(t, "the stuck ones to be closed", func() bool {
			return g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Closes(proto.CloseSlow) }) == 2
		})
		eventually(t, "them to be gone", func() bool {
			return g.sum(func(ss *session.Sessions) uint64 { return uint64(ss.Stats().Sockets.Load()) }) == 2
		})
		fast.silent()
	})
}

// A JSON member that falls behind the ring receives the missing events from the log, each once
// and in order.
func TestMemberThatFallsBehindMissesNothing(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, func(s *settings) {
			s.session.Rate.PerSecond = 0
			s.session.SlowTime = time.Minute
			s.session.Hub.RoomBytes = 32 << 10
		})
		room := fmt.Sprintf("over_%d", time.Now().UnixNano())
		late := g.json("/room/" + room + "/")
		late.want(`{"hello":*`)
		sender := g.json("/room/" + room + "/")
		sender.want(`{"hello":*`)
		const n = 80
		g.stuff(sender, room, n, 40_000)
		eventually(t, "the late one to be overtaken", func() bool {
			return g.sum(func(ss *session.Sessions) uint64 { return ss.Hub().Stats().FellBehind.Load() }) > 0
		})
		for seq := 1; seq <= n; seq++ {
			late.want(fmt.Sprintf(`{"room":"%s","seq":%d,*}`, room, seq))
		}
		sender.send(`{"id":"last","say":{"text":"last"}}`)
		late.want(`{*"text":"last"}`)
	})
}

// While NATS is unreachable, connections stay open. JSON sessions receive refusals. A text
// session is closed only when a message has waited too long.
func TestNATSAway(t *testing.T) {
	var mu sync.Mutex
	var conns []*nats.Conn
	var away atomic.Bool
	g := start(t, func(s *settings) {
		s.session.JSONPatience, s.session.TextPatience = 300*time.Millisecond, time.Second
		s.dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			opts = append(opts, nats.SetCustomDialer(dialer(func(network, addr string) (net.Conn, error) {
				if away.Load() {
					return nil, fmt.Errorf("NATS is away")
				}
				return net.Dial(network, addr)
			})))
			nc, err := dialNATS(name, opts...)
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, nc)
			return nc, err
		}
	})
	j, x, w := g.json("/room/away/"), g.text("/room/away/"), g.json("/ws")
	j.want(`{"hello":*`)
	w.want(`{"hello":*`)
	away.Store(true)
	mu.Lock()
	for _, nc := range conns {
		if err := nc.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
	}
	mu.Unlock()
	j.send(`{"id":1,"say":{"text":"lost?","key":"k"}}`)
	j.want(`{"id":1,"error":{"code":"unavailable","message":"*","retry_ms":*}}`)
	w.send(`{"id":1,"join":{"room":"away2"}}`)
	late := g.text("/room/away3/")
	x.send("held")
	x.want("close 4004 *")
	late.want("close 4004 *")
	w.want(`{"id":1,"error":{"code":"unavailable","message":"*","retry_ms":*}}`)
	j.silent()
	away.Store(false)
	eventually(t, "NATS to be back", func() bool {
		j.send(`{"id":2,"say":{"text":"lost?","key":"k"}}`)
		for {
			if got := j.next(); strings.HasPrefix(got, `{"id":2,`) {
				return strings.HasPrefix(got, `{"id":2,"ok":`)
			}
		}
	})
}

type dialer func(network, addr string) (net.Conn, error)

func (d dialer) Dial(network, addr string) (net.Conn, error) { return d(network, addr) }

// Drain closes all sessions with code 1001, a few at a time.
func TestDrain(t *testing.T) {
	g := start(t, func(s *settings) { s.loop.Loops = 1 })
	var all []*client
	for range 5 {
		all = append(all, g.text("/room/drain/"))
	}
	for want := 3; want >= 0; want -= 2 {
		left := make(chan int)
		g.loops[0].Post(func() { left <- g.sessions[0].Drain(2) })
		if got := <-left; got != max(want, 0) {
			t.Errorf("got %d left, want %d", got, want)
		}
	}
	left := make(chan int)
	g.loops[0].Post(func() { left <- g.sessions[0].Drain(2) })
	<-left
	for _, c := range all {
		c.want("close 1001 *")
		c.ended()
	}
}

// A client sends messages without waiting for answers, and resends refused messages when it may.
// The messages must be stored in the order in which the client first sent them.
func TestMessagesKeepTheirOrderUnderRefusals(t *testing.T) {
	g := start(t)
	c := g.json("/room/order/")
	c.want(`{"hello":*`)
	const n = 80
	say := func(i int) { c.send(fmt.Sprintf(`{"id":%d,"say":{"text":"%d","key":"k%d"}}`, i, i, i)) }
	for i := range n - 20 { // the messages of the first burst, and some that exceed the rate
		say(i)
	}
	type refusal struct {
		id  int
		due time.Time
	}
	var later []refusal
	next, stored, refused := n-20, []int{}, 0
	for len(stored) < n {
		now := time.Now()
		c.nc.SetReadDeadline(now.Add(15 * time.Millisecond))
		if _, err := c.r.Peek(2); err != nil { // no answer has arrived: send the next message
			if next < n {
				say(next)
				next++
			}
			waiting := later
			later = nil
			for _, r := range waiting {
				if r.due.After(now) {
					later = append(later, r)
				} else {
					say(r.id)
				}
			}
			continue
		}
		var f struct {
			ID    *int
			Error *struct {
				Code  proto.Code
				Retry int `json:"retry_ms"`
			}
			Text string
		}
		frame := c.next()
		if err := json.Unmarshal([]byte(frame), &f); err != nil {
			t.Fatalf("%s: %v", frame, err)
		}
		switch {
		case f.Error != nil:
			if refused++; f.Error.Code != proto.RateLimited && f.Error.Code != proto.Overloaded || f.Error.Retry == 0 {
				t.Fatalf("got %s, want rate_limited or overloaded for now", frame)
			}
			later = append(later, refusal{*f.ID, time.Now().Add(time.Duration(f.Error.Retry) * time.Millisecond)})
		case f.ID == nil && f.Text != "":
			i, err := strconv.Atoi(f.Text)
			if err != nil || i != len(stored) {
				t.Fatalf("got message %s after %v, want them in the order in which they were said", f.Text, stored)
			}
			stored = append(stored, i)
		}
	}
	if refused < 10 {
		t.Errorf("got %d refusals, too few to show anything", refused)
	}
}

// A client leaves out the resend of a refused message for good. Its later messages must not have
// to wait long for the refused message.
func TestRefusedMessageDelaysLaterMessagesOnlyForAWhile(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate = limit.Rate{PerSecond: 20, Burst: 1} })
	c := g.json("/room/givenup/")
	c.want(`{"hello":*`)
	c.send(`{"id":1,"say":{"text":"a","key":"a"}}`)
	c.send(`{"id":2,"say":{"text":"b","key":"b"}}`)
	for refused := false; !refused; {
		refused = matches(`{"id":2,"error":{"code":"rate_limited",*`, c.next())
	}
	eventually(t, "a later message to be taken", func() bool {
		c.send(`{"id":3,"say":{"text":"c","key":"c"}}`)
		for {
			switch got := c.next(); {
			case strings.HasPrefix(got, `{"id":3,"ok":`):
				return true
			case strings.HasPrefix(got, `{"id":3,"error":`):
				time.Sleep(100 * time.Millisecond)
				return false
			}
		}
	})
}

// An edit is not stored before an earlier message that was refused.
func TestEditWaitsForARefusedMessage(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate = limit.Rate{PerSecond: 20, Burst: 1} })
	c := g.json("/room/edits/")
	c.want(`{"hello":*`)
	c.send(`{"id":1,"say":{"text":"a","key":"a"}}`)
	c.send(`{"id":2,"say":{"text":"b","key":"b"}}`)
	c.wantSoon(`{"id":2,"error":{"code":"rate_limited",*`)
	answer := func(verb string) (got string) {
		eventually(t, "a command within the rate", func() bool {
			c.send(`{"id":3,` + verb + `}`)
			for got = c.next(); !strings.HasPrefix(got, `{"id":3,`); {
				got = c.next()
			}
			return !strings.Contains(got, "too many commands")
		})
		return got
	}
	if got := answer(`"edit":{"seq":1,"text":"A","key":"e"}`); !matches(`{"id":3,"error":{"code":"rate_limited","message":"first send your earlier message (key b) again*`, got) {
		t.Errorf("got %s, want the edit to wait", got)
	}
	for _, verb := range []string{`"say":{"text":"b","key":"b"}`, `"edit":{"seq":1,"text":"A","key":"e"}`} {
		if got := answer(verb); !matches(`{"id":3,"ok":*`, got) {
			t.Errorf("got %s for %s, want ok", got, verb)
		}
	}
}
