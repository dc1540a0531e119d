package session_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/publish"
	"roomcast/gateway/session"
	"roomcast/proto"
	"roomcast/proto/natstest"
)

// moderated is a room with a moderator on /ws, and with members on two gateways.
type moderated struct {
	*testing.T
	a, b *gateway
	room string
	mod  *client // the moderator, who is a member and connected to /ws of gateway a
	acts int
}

func startModerated(t *testing.T) *moderated {
	keys := withTokens(t)
	m := &moderated{T: t, a: start(t, keys), b: start(t, keys), room: fmt.Sprintf("acts_%d", time.Now().UnixNano())}
	m.mod = m.a.bearer("/ws", tokenOf("mod", "*=read say moderate", time.Hour))
	m.mod.want(`{"hello":*`)
	m.mod.send(`{"id":"j","join":{"room":"` + m.room + `"}}`)
	m.mod.wantSoon(`{"id":"j","ok":*`)
	return m
}

// member opens a session for id in the room.
func (m *moderated) member(g *gateway, id string) *client {
	m.Helper()
	c := g.bearer("/room/"+m.room+"/", tokenOf(id, "*=read say", time.Hour))
	c.wantSoon(`{"hello":*`)
	return c
}

// act sends a moderate command with the given fields and waits for its ack.
func (m *moderated) act(fields string) {
	m.Helper()
	m.acts++
	m.mod.send(fmt.Sprintf(`{"id":%d,"moderate":{"room":"%s",%s}}`, m.acts, m.room, fields))
	m.mod.wantSoon(fmt.Sprintf(`{"id":%d,"ok":{"seq":*`, m.acts))
}

// wantSoon skips frames until one matches the pattern.
func (c *client) wantSoon(pattern string) string {
	c.t.Helper()
	for {
		got := c.next()
		if matches(pattern, got) {
			return got
		}
		if matches("close *", got) {
			c.t.Fatalf("got %s, want %s", got, pattern)
		}
	}
}

func TestKickEndsTheMembershipsThatBeganBefore(t *testing.T) {
	m := startModerated(t)
	here, there, bob := m.member(m.a, "ann"), m.member(m.b, "ann"), m.member(m.b, "bob")
	ws := m.b.bearer("/ws", tokenOf("ann", "*=read say", time.Hour))
	ws.wantSoon(`{"hello":*`)
	ws.send(`{"id":1,"join":{"room":"` + m.room + `"}}`)
	ws.wantSoon(`{"id":1,"ok":*`)
	m.act(`"act":"kick","member":"ann","why":"come back later","key":"k1"`)
	for _, c := range []*client{here, there} {
		c.wantSoon(`{"room":*"kind":"kicked","from":{"id":"mod",*},"key":"k1","member":"ann","why":"come back later"}`)
		c.wantSoon("close 4101 a moderator removed you from the room: come back later")
	}
	ws.wantSoon(`{"room":"` + m.room + `","ended":{"code":4101,"reason":"*come back later"}}`)
	bob.send(`{"id":1,"say":{"text":"is ann gone?"}}`)
	bob.wantSoon(`{"id":1,"ok":*`)
	eventually(t, "ann to be gone", func() bool {
		present := make(chan bool, 1)
		m.a.bridge.Members(proto.MustRoom(m.room), func(_ int, list []proto.Member, err error) {
			present <- err != nil || slices.ContainsFunc(list, func(who proto.Member) bool { return who.ID == "ann" })
		})
		return !<-present
	})
	for _, again := range []string{"k1", "k2"} {
		m.mod.send(`{"id":"` + again + `","moderate":{"room":"` + m.room + `","act":"kick","member":"ann","why":"come back later","key":"` + again + `"}}`)
	}
	m.mod.wantSoon(`{"id":"k1","ok":{"seq":*"duplicate":true}}`)
	m.mod.wantSoon(`{"id":"k2","error":{"code":"not_found",*`)
	back := m.member(m.a, "ann")
	back.send(`{"id":1,"history":{}}`) // the kick in this page must not end the membership
	back.wantSoon(`{"id":1,"ok":*"kind":"kicked"*`)
	back.send(`{"id":2,"say":{"text":"I am back"}}`)
	back.wantSoon(`{"id":2,"ok":*`)
	m.mod.send(`{"id":"k","moderate":{"room":"` + m.room + `","act":"kick","member":"nobody"}}`)
	m.mod.wantSoon(`{"id":"k","error":{"code":"not_found",*`)
}

func TestABannedUserCannotEnterInAnyWay(t *testing.T) {
	m := startModerated(t)
	ann := m.member(m.b, "ann")
	m.act(`"act":"ban","member":"ann","for":"1h","why":"spam"`)
	ann.wantSoon(`{"room":*"kind":"banned",*"member":"ann","until":"*Z","why":"spam"}`)
	ann.wantSoon("close 4102 a moderator banned you from the room: spam")
	third := start(t, withTokens(t)) // this gateway reads the ban from the room's snapshot
	for _, g := range []*gateway{m.a, m.b, third} {
		c := g.bearer("/room/"+m.room+"/", tokenOf("ann", "*=read say", time.Hour))
		c.wantSoon("close 4102 a moderator has banned you from this room until *Z; come back then")
		ws := g.bearer("/ws", tokenOf("ann", "*=read say moderate", time.Hour))
		ws.want(`{"hello":*`)
		for id, verb := range []string{
			`"join":{"room":"%s"}`, `"say":{"room":"%s","text":"hi"}`, `"moderate":{"room":"%s","act":"unban","member":"bob"}`,
		} {
			ws.send(fmt.Sprintf(`{"id":%d,`+verb+`}`, id, m.room))
			ws.wantSoon(fmt.Sprintf(`{"id":%d,"error":{"code":"banned",*`, id))
		}
	}
	m.act(`"act":"unban","member":"ann"`)
	for _, g := range []*gateway{m.a, m.b, third} {
		// The moderator's gateway answers before the other gateways have received the unban.
		eventually(t, "a gateway that admits ann", func() bool {
			return matches(`{"hello":*`, g.bearer("/room/"+m.room+"/", tokenOf("ann", "*=read say", time.Hour)).next())
		})
		c := m.member(g, "ann")
		c.send(`{"id":1,"say":{"text":"hi"}}`)
		c.wantSoon(`{"id":1,"ok":*`)
	}
}

// held is a connection whose received bytes wait while gate is locked.
type held struct {
	net.Conn
	gate *sync.RWMutex
}

func (h held) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.gate.RLock()
	defer h.gate.RUnlock()
	return n, err
}

// A gateway that has not received the event of a ban yet must not show the banned member a page of
// the log with later events.
func TestABanHoldsForHistoryBeforeItsEventArrives(t *testing.T) {
	m := startModerated(t)
	var gate sync.RWMutex
	late := start(t, withTokens(t), func(s *settings) {
		s.dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			if !strings.HasSuffix(name, "/read") {
				opts = append(opts, nats.SetCustomDialer(dialer(func(network, addr string) (net.Conn, error) {
					conn, err := net.Dial(network, addr)
					return held{conn, &gate}, err
				})))
			}
			return dialNATS(name, opts...)
		}
	})
	ann := late.bearer("/room/"+m.room+"/", tokenOf("ann", "*=read say", time.Hour))
	ann.want(`{"hello":*`)
	gate.Lock()
	defer gate.Unlock()
	m.act(`"act":"ban","member":"ann"`)
	m.mod.send(`{"id":"s","say":{"room":"` + m.room + `","text":"ann is gone"}}`)
	m.mod.wantSoon(`{"id":"s","ok":*`)
	ann.send(`{"id":1,"history":{}}`)
	if got := ann.wantSoon(`{"id":1,*`); !matches(`{"id":1,"error":{"code":"banned",*`, got) {
		t.Errorf("got %s, want banned", got)
	}
}

func TestAMutedMemberCanOnlyReadTheRoom(t *testing.T) {
	m := startModerated(t)
	ann, bob := m.member(m.b, "ann"), m.member(m.a, "bob")
	m.act(`"act":"mute","member":"ann"`)
	ann.wantSoon(`{"room":*"kind":"muted",*"member":"ann"}`)
	ann.send(`{"id":1,"say":{"text":"hi"}}`)
	ann.wantSoon(`{"id":1,"error":{"code":"muted",*`)
	ann.send(`{"id":2,"signal":{"type":"typing","data":{}}}`)
	ann.wantSoon(`{"id":2,"error":{"code":"muted",*`)
	// The owner has refused the message, and the gateway the signal.
	if n := m.b.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Refusals(proto.CodeMuted) }); n != 2 {
		t.Errorf("the metrics show %d refusals, want 2", n)
	}
	bob.send(`{"id":1,"say":{"text":"ann hears this"}}`)
	ann.wantSoon(`{*"text":"ann hears this"}`)
	m.act(`"act":"unmute","member":"ann"`)
	ann.wantSoon(`{"room":*"kind":"unmuted",*`)
	ann.send(`{"id":3,"signal":{"type":"typing","data":{}}}`)
	ann.wantSoon(`{"id":3,"ok":*`)
	ann.send(`{"id":4,"say":{"text":"hi"}}`)
	ann.wantSoon(`{"id":4,"ok":*`)
}

func TestASlowRoomTakesOneMessageOfEachMember(t *testing.T) {
	m := startModerated(t)
	ann := m.member(m.b, "ann")
	m.act(`"act":"slow","every":"1h"`)
	ann.wantSoon(`{"room":*"kind":"slowed",*"every":"1h"}`)
	ann.send(`{"id":1,"say":{"text":"one"}}`)
	ann.wantSoon(`{"id":1,"ok":*`)
	ann.send(`{"id":2,"say":{"text":"two"}}`)
	ann.wantSoon(`{"id":2,"error":{"code":"rate_limited",*"retry_ms":3*`)
	ann.send(`{"id":3,"signal":{"type":"typing","data":{}}}`)
	ann.wantSoon(`{"id":3,"ok":*`)
	ann.send(`{"id":4,"signal":{"type":"typing","data":{}}}`)
	ann.wantSoon(`{"id":4,"error":{"code":"rate_limited",*`)
	for id := range 3 {
		m.mod.send(fmt.Sprintf(`{"id":"m%d","say":{"room":"%s","text":"I moderate"}}`, id, m.room))
		m.mod.wantSoon(fmt.Sprintf(`{"id":"m%d","ok":*`, id))
	}
	m.act(`"act":"slow","every":"0"`)
	ann.wantSoon(`{"room":*"kind":"slowed",*"every":"0s"}`)
	ann.send(`{"id":5,"say":{"text":"two"}}`)
	ann.wantSoon(`{"id":5,"ok":*`)
}

func TestSayNeedsNoMembership(t *testing.T) {
	m := startModerated(t)
	c := m.b.bearer("/ws", tokenOf("ann", m.room+"=say,*=", time.Hour))
	c.want(`{"hello":*`)
	c.send(`{"id":1,"say":{"room":"` + m.room + `","text":"from outside"}}`)
	c.want(`{"id":1,"ok":{"seq":*`) // no event follows, because the sender is not a member
	c.send(`{"id":2,"say":{"room":"` + m.room + `x","text":"elsewhere"}}`)
	c.want(`{"id":2,"error":{"code":"forbidden",*`)
	m.mod.wantSoon(`{*"from":{"id":"ann",*"text":"from outside"}`)
}

// A ban of guests ends the sessions of guests. Sessions with a token stay in the room.
func TestABanOfGuestsEndsSessionsOfEveryKind(t *testing.T) {
	g := start(t)
	room := fmt.Sprintf("guests_%d", time.Now().UnixNano())
	text, ws := g.text("/room/"+room+"/"), g.json("/room/"+room+"/")
	ws.want(`{"hello":*`)
	g.moderate(room, proto.ActBan, proto.Guests)
	text.want("close 4102 a moderator banned you from the room")
	ws.wantSoon("close 4102 a moderator banned you from the room")
	g.text("/room/" + room + "/").want("close 4102 a moderator has banned you from this room; you may return *")
	reader := g.connect()
	reader.write([]byte("GET /room/" + room + "/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"))
	if got := reader.status(); got != 403 {
		t.Errorf("a reader of events: got status %d, want 403", got)
	}
	g.moderate(room, proto.ActUnban, proto.Guests)
	g.json("/room/" + room + "/").want(`{"hello":*`)
}

// moderate carries out an act on a member, without a session of a moderator.
func (g *gateway) moderate(room string, act proto.Act, member string) {
	g.t.Helper()
	done := make(chan proto.Reply, 1)
	g.bridge.Say(publish.Say{Rights: proto.AllRights, Room: proto.MustRoom(room), From: proto.Identity{ID: "api"}, Act: act,
		Terms: proto.Terms{Member: member}, Patience: 5 * time.Second}, func(r proto.Reply) { done <- r })
	if r := <-done; r.Seq == 0 {
		g.t.Fatalf("%s %s: %v", act, member, r.Refusal)
	}
}

// do sends a command of the client and waits for its ok.
func (c *client) do(id, command string) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"id":"%s",%s}`, id, command))
	c.wantSoon(fmt.Sprintf(`{"id":"%s","ok":*`, id))
}

// All later readers receive a stub for a deleted message, and the newest text of an edited
// message. It does not matter whether the events come from a ring or from the log.
func TestEditAndDeleteShowInEveryLaterRead(t *testing.T) {
	m := startModerated(t)
	ann, bob := m.member(m.a, "ann"), m.member(m.b, "bob")
	ann.do("1", `"say":{"text":"first"}`)
	ann.do("2", `"say":{"text":"SECRET"}`)
	ann.do("3", `"say":{"text":"last"}`)
	bob.send(`{"id":"no","edit":{"seq":1,"text":"mine"}}`)
	bob.wantSoon(`{"id":"no","error":{"code":"forbidden",*`)
	bob.send(`{"id":"no","moderate":{"act":"delete","seq":1}}`)
	bob.wantSoon(`{"id":"no","error":{"code":"forbidden",*`)
	ann.do("4", `"edit":{"seq":1,"text":"first, corrected","key":"e1"}`)
	bob.wantSoon(`{"room":*"seq":4,*"kind":"edited",*"text":"first, corrected","of":1}`)
	ann.do("5", `"moderate":{"act":"delete","seq":2}`)
	bob.wantSoon(`{"room":*"seq":5,*"kind":"deleted",*"of":2,"author":{"id":"ann","at":"*"}}`) // without the key that the gateway has made
	m.mod.send(`{"id":"e","moderate":{"room":"` + m.room + `","act":"edit","seq":1}}`)
	m.mod.wantSoon(`{"id":"e","error":{"code":"bad_request",*`)

	check := func(where string, c *client) {
		t.Helper()
		for _, want := range []string{
			`{"room":*"seq":1,*"text":"first, corrected","edited":"*"}`,
			`{"room":*"seq":2,"at":"*","from":{"id":"ann"},"deleted":true}`,
			`{"room":*"seq":3,*"text":"last"}`,
		} {
			for got := c.next(); !matches(want, got); got = c.next() {
				if !matches(`*"joined":*`, got) && !matches(`*"left":*`, got) {
					t.Fatalf("%s: got %s, want %s", where, got, want)
				}
			}
		}
	}
	third := start(t, withTokens(t))
	for where, g := range map[string]*gateway{"the gateway of the author": m.a, "another gateway": m.b, "a new gateway": third} {
		for _, query := range []string{"since=0", "last=5"} {
			c := g.bearer("/room/"+m.room+"/?"+query, tokenOf("cid", "*=read", time.Hour))
			c.want(`{"hello":*`)
			check(where+" with "+query, c)
			c.send(`{"id":"h","history":{"limit":10}}`)
			if got := c.wantSoon(`{"id":"h",*`); matches(`*SECRET*`, got) || !matches(`*"text":"first, corrected","edited":*"deleted":true*`, got) {
				t.Errorf("%s: history is %s", where, got)
			}
		}
		plain := g.connect()
		plain.write([]byte("GET /room/" + m.room + "/?since=0 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer " + tokenOf("dan", "*=read", time.Hour) + "\r\n\r\n"))
		if got := plain.status(); got != 101 {
			t.Fatalf("%s: a text session: got status %d", where, got)
		}
		plain.hears("first, corrected", "last")
	}
	// A member that was present when the acts happened resumes from the ring. It receives the
	// stub and the edit again.
	bob.do("6", `"say":{"text":"more"}`)
	ann.wantSoon(`*"text":"more"}`)
	again := m.b.bearer("/room/"+m.room+"/?since=1", tokenOf("bob", "*=read say", time.Hour))
	again.want(`{"hello":*`)
	again.wantSoon(`{"room":*"seq":2,*"deleted":true}`)
	again.wantSoon(`{"room":*"seq":6,*"text":"more"}`)
}

func TestAJoinTellsTheRightsAndTheMuteOfTheSession(t *testing.T) {
	m := startModerated(t)
	m.act(`"act":"mute","member":"ann","for":"1h"`)
	m.act(`"act":"mute","member":"bob"`)
	m.mod.send(`{"id":"again","join":{"room":"` + m.room + `"}}`)
	m.mod.wantSoon(`{"id":"again","ok":{*"rights":"read say moderate"}}`)
	for id, want := range map[string]string{"ann": `"rights":"read say","muted":true,"until":"20*Z"}}`, "bob": `"rights":"read say","muted":true}}`, "eve": `"rights":"read say"}}`} {
		c := m.b.bearer("/room/"+m.room+"/", tokenOf(id, "*=read say", time.Hour))
		c.wantSoon(`{"hello":{*"room":"` + m.room + `"*` + want)
		ws := m.b.bearer("/ws", tokenOf(id, "*=read say", time.Hour))
		ws.wantSoon(`{"hello":*`)
		ws.send(`{"id":1,"join":{"room":"` + m.room + `"}}`)
		ws.wantSoon(`{"id":1,"ok":{*` + want)
		stream := m.b.events("/events?room="+m.room, "Authorization: Bearer "+tokenOf(id, "*=read say", time.Hour))
		stream.want("hello")
		if got := stream.want("ok").data; !matches(`{"ok":{*`+want, got) {
			t.Errorf("a stream got %s, want %s", got, want)
		}
	}
}

// The log of the room is empty, and the replica that answers has no snapshot yet. The gateway asks
// the owner of the room, who knows the ban.
func TestBanHoldsInAnEmptyRoomIfAReplicaIsBehind(t *testing.T) {
	m := startModerated(t)
	m.act(`"act":"ban","member":"ann","key":"b1"`)
	m.mod.send(`{"id":"l","leave":{"room":"` + m.room + `"}}`)
	m.mod.wantSoon(`{"id":"l","ok":*`)
	nc, room := backend.ns.Connect(t), proto.MustRoom(m.room)
	natstest.Purge(t, nc, proto.StreamName, room.LogSubject())
	natstest.Purge(t, nc, proto.StateStream, room.StateSubject())
	g := start(t, withTokens(t)) // it has not read the room before
	g.bearer("/room/"+m.room+"/", tokenOf("ann", "*=read say", time.Hour)).wantSoon("close 4102 a moderator has banned you from this room*")
	m.member(g, "bob")
}
