package session_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/publish"
	"roomcast/proto"
)

// both runs a test with the epoll backend and with the portable backend of the loop.
func both(t *testing.T, test func(t *testing.T, portable func(*settings))) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable=%v", portable), func(t *testing.T) {
			test(t, func(s *settings) { s.loop.Portable = portable })
		})
	}
}

const stamp = "????-??-?? ??:??:?? "

// stamped checks the time before a message and returns the message without it.
func stamped(t testing.TB, line string) string {
	t.Helper()
	if len(line) < len(stamp) {
		t.Fatalf("got %q, want a stamp and a message", line)
	}
	if _, err := time.Parse("2006-01-02 15:04:05 ", line[:len(stamp)]); err != nil {
		t.Fatalf("got %q: %v", line, err)
	}
	return line[len(stamp):]
}

func (c *client) hears(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := stamped(c.t, c.next()); got != w {
			c.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

func TestConversation(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable)
		room := fmt.Sprintf("聊天室_%d", len(g.addr)+int(time.Now().UnixNano()%1e9))
		a, b, other := g.text("/room/"+room+"/"), g.text("/room/"+room), g.text("/room/elsewhere/")
		j := g.json("/ws")
		hello := j.want(`{"hello":{"session":"*","you":{"id":"anon-*"},"resume":"*","time":"*","limits":{"message":65536,"rooms":64,"rate":20,"key_window_ms":120000}}}`)
		if strings.Contains(hello, `"room"`) {
			t.Errorf("got %s, want no room in the hello of /ws", hello)
		}
		j.send(`{"id":"j","join":{"room":"` + room + `"}}`)
		j.want(`{"id":"j","ok":{"room":"` + room + `","seq":*,"epoch":"*"}}`)
		a.silent()
		b.silent()

		a.send("你好")
		for _, c := range []*client{a, b} {
			c.hears("你好")
		}
		j.want(`{"room":"` + room + `","seq":1,"at":"*","from":{"id":"anon-*"},"text":"你好"}`)
		j.send(`{"id":7,"say":{"room":"` + room + `","data":{"n":1},"type":"xx.oo","key":"k1"}}`)
		var ok, event bool
		for range 2 {
			m := j.next()
			ok = ok || matches(`{"id":7,"ok":{"seq":2,"at":"*"}}`, m)
			event = event || matches(`{"room":"*","seq":2,*"type":"xx.oo","data":{"n":1}}`, m)
		}
		if !ok || !event {
			t.Errorf("got ok %v, event %v, want both", ok, event)
		}
		j.send(`{"id":8,"say":{"room":"` + room + `","data":{"n":1},"type":"xx.oo","key":"k1"}}`)
		j.want(`{"id":8,"ok":{"seq":2,"at":"*","duplicate":true}}`)
		a.hears(`{"n":1}`)
		b.hears(`{"n":1}`)
		b.write(maskedFrame(0x82, "\x00\xff"))
		if got := a.next(); got != "\x00\xff" {
			t.Errorf("got %q, want the bytes as they were sent", got)
		}
		b.next()
		j.want(`{"room":"*","seq":3,*"bin":"AP8="}`)

		a.send("关闭")
		a.want("close 1000 *")
		a.ended()
		b.silent()
		other.silent()
	})
}

// A signal reaches all other members. A close word closes a JSON session only if a person has
// typed it.
func TestSignalsAndCloseWord(t *testing.T) {
	g := start(t)
	a, b := g.json("/room/signals/?name=Ann"), g.json("/room/signals/")
	a.want(`{"hello":*"you":{"id":"*","name":"Ann"}*"room":"signals",*}}`)
	b.want(`{"hello":*}`)
	a.send(`{"id":1,"signal":{"type":"typing","data":{"on":true}}}`)
	a.want(`{"id":1,"ok":{}}`)
	b.want(`{"room":"signals","signal":{"type":"typing","from":{"id":"*","name":"Ann"},"data":{"on":true}}}`)
	b.send(`{"id":2,"members":{}}`)
	b.want(`{"id":2,"ok":{"room":"signals","count":2,"members":[*]}}`)
	a.silent()
	b.send(`{"id":3,"say":{"text":"关闭"}}`)
	a.want(`{"room":"signals",*"text":"关闭"}`)
	b.want(`*"seq":*`) // the ok or the event, which may come in either order
	b.want(`*"seq":*`)
	b.send(`{"id":4,"say":{"text":"关闭","line":true}}`)
	b.want("close 1000 *")
	b.ended()
}

func TestEveryVerbIsAnswered(t *testing.T) {
	g := start(t)
	c := g.json("/room/verbs/")
	c.want(`{"hello":*}`)
	frames := map[proto.Verb]string{
		proto.VerbSay: `"text":"hi"`, proto.VerbJoin: "", proto.VerbHistory: "", proto.VerbMembers: "", proto.VerbPing: "",
		proto.VerbSignal: `"type":"typing"`, proto.VerbEdit: `"seq":1,"text":"ho"`, proto.VerbModerate: `"act":"close"`, proto.VerbAuth: `"token":"none"`, proto.VerbLeave: "",
	}
	for _, rule := range proto.Verbs {
		fields, ok := frames[rule.Verb]
		if !ok {
			t.Errorf("the test has no frame of %s", rule.Verb)
		}
		c.send(fmt.Sprintf(`{"id":1,"%s":{%s}}`, rule.Verb, fields))
		got := c.next()
		for !strings.HasPrefix(got, `{"id":1,`) {
			got = c.next() // an event came first; the answer is the next frame
		}
		if strings.Contains(got, `"code":"unsupported"`) {
			t.Errorf("%s: got %s", rule.Verb, got)
		}
	}
}

// The bytes of a client may arrive one at a time, or together with its handshake.
func TestBytesMayArriveSinglyOrWithTheHandshake(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable)
		for _, chop := range []int{1, 2, 3, 7, 0} {
			room := fmt.Sprintf("chop%d_%d", chop, time.Now().UnixNano())
			c := g.connect()
			c.chop = chop
			all := []byte(handshakeOf("/room/"+room+"/", ""))
			all = append(all, maskedFrame(0x81, "one")...)
			all = append(all, maskedFrame(0x01, "t")...)
			all = append(all, maskedFrame(0x89, "p")...)
			all = append(all, maskedFrame(0x80, "wo")...)
			all = append(all, maskedFrame(0x81, strings.Repeat("x", 300))...)
			c.write(all)
			if got := c.status(); got != 101 {
				t.Fatalf("chopped by %d: got status %d, want 101", chop, got)
			}
			pong := false
			for _, want := range []string{"one", "two", strings.Repeat("x", 300)} {
				got := c.next()
				if got == "p" && !pong {
					pong = true
					got = c.next()
				}
				if stamped(t, got) != want {
					t.Fatalf("chopped by %d: got %q, want %q", chop, got, want)
				}
			}
			c.write([]byte{0x88, 0x80, 0, 0, 0, 0})
			if !pong {
				c.want("p")
			}
			c.want("close 0 ")
			c.ended()
		}
	})
}

func TestReplay(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate.PerSecond = 0 })
	a := g.text("/room/replay/")
	for i := range 200 {
		a.send(fmt.Sprint(i))
	}
	for i := range 200 {
		a.hears(fmt.Sprint(i))
	}
	t.Run("text last", func(t *testing.T) {
		b := g.text("/room/replay/?last=3")
		b.hears("197", "198", "199")
		b.silent()
	})
	t.Run("text since", func(t *testing.T) {
		b := g.text("/room/replay/?since=0")
		for i := range 200 {
			b.hears(fmt.Sprint(i))
		}
	})
	t.Run("json since, with the epoch", func(t *testing.T) {
		b := g.json("/ws")
		b.want(`{"hello":*`)
		b.send(`{"id":1,"join":{"room":"replay","last":1}}`)
		ok := b.want(`{"id":1,"ok":{"room":"replay","seq":200,"epoch":"*","at":"*"}}`)
		b.want(`{"room":"replay","seq":200,*}`)
		_, epoch, _ := strings.Cut(ok, `"epoch":"`)
		epoch, _, _ = strings.Cut(epoch, `"`)

		c := g.json("/room/replay/?since=150&epoch=" + epoch)
		c.want(`{"hello":*`)
		for seq := 151; seq <= 200; seq++ {
			c.want(fmt.Sprintf(`{"room":"replay","seq":%d,*}`, seq))
		}
		d := g.json("/room/replay/?since=150&epoch=another")
		d.want(`{"hello":*`)
		d.want(`{"room":"replay","gap":{"from":*,"to":0,"reason":"reset","epoch":*}}`)
		d.want(`{"room":"replay","seq":1,*}`)
		e := g.json("/room/replay/?since=999")
		e.want(`{"hello":*`)
		e.want(`{"room":"replay","gap":{*"reason":"reset",*}}`)
		e.want(`{"room":"replay","seq":1,*}`)
	})
	t.Run("history", func(t *testing.T) {
		b := g.json("/room/replay/")
		b.want(`{"hello":*`)
		b.send(`{"id":1,"history":{"before":11,"limit":5}}`)
		got := b.want(`{"id":1,"ok":{"room":"replay","events":[{*"seq":6,*"seq":10,*}],"more":true,"seq":200,"epoch":"*"}}`)
		if n := strings.Count(got, `"at":`); n != 5 {
			t.Errorf("got %d events, want 5", n)
		}
		b.send(`{"id":2,"history":{"since":198}}`)
		b.want(`{"id":2,"ok":{"room":"replay","events":[{*"seq":199,*"seq":200,*}],"more":false,"seq":200,"epoch":"*"}}`)
	})
}

// The log no longer contains the event after the position in since. The gateway sends the text
// session one line that says so, and then the messages that remain.
func TestTextSessionIsToldIfSinceIsTooOld(t *testing.T) {
	g := start(t)
	room := proto.MustRoom("text_since")
	var stored sync.WaitGroup
	for i := range 1005 { // the log keeps 1000 events
		stored.Add(1)
		g.bridge.Say(publish.Say{Rights: proto.AllRights,
			Room: room, From: proto.Identity{ID: fmt.Sprint("u", i%50)}, Patience: 20 * time.Second,
			Content: proto.Content{Kind: proto.Text, Body: []byte("hi")},
		}, func(r proto.Reply) {
			if r.Refusal != nil {
				t.Errorf("got %v, want it stored", r.Refusal)
			}
			stored.Done()
		})
	}
	stored.Wait()
	const anew = "[this room has a new numbering; its oldest messages follow]"
	for query, want := range map[string]string{
		"since=1":             "[messages 2 to 5 cannot be shown any more]",
		"since=4":             "[message 5 cannot be shown any more]",
		"since=0":             "[messages 1 to 5 cannot be shown any more]",
		"since=2000":          anew,
		"since=900&epoch=old": anew,
		"since=5":             "",
		"last=1000":           "",
	} {
		c := g.text("/room/text_since/?" + query)
		if want != "" {
			c.want(want)
		}
		for range 1000 {
			if got := stamped(t, c.next()); got != "hi" {
				t.Fatalf("%s: got %q, want a message", query, got)
			}
		}
		c.silent()
	}
}

// A client that presents its resume string is the same sender as before. So the owner recognises
// the key when the client sends a message again.
func TestResumedSessionIsTheSameSender(t *testing.T) {
	g := start(t)
	room := "resume-" + rand.Text() // a new name for each run, because the log outlives a run
	a := g.json("/room/" + room + "/?name=Ann")
	hello := a.want(`{"hello":*`)
	field := func(name string) string {
		_, rest, _ := strings.Cut(hello, `"`+name+`":"`)
		v, _, _ := strings.Cut(rest, `"`)
		return v
	}
	id, resume := field("id"), field("resume")
	a.send(`{"id":1,"say":{"text":"once","key":"k"}}`)
	b := g.open("/room/"+room+"/?since=0", "roomcast.v1, resume."+resume)
	if got := b.want(`{"hello":*`); !strings.Contains(got, `"you":{"id":"`+id+`","name":"Ann"}`) {
		t.Errorf("got %s, want the same identity %s", got, id)
	}
	b.want(`{"room":"` + room + `","seq":1,*"text":"once"}`)
	b.send(`{"id":2,"say":{"text":"once","key":"k"}}`)
	b.want(`{"id":2,"ok":{"seq":1,"at":"*","duplicate":true}}`)
	b.silent()
	c := g.open("/room/"+room+"/", "resume."+resume[:len(resume)-2]+"xx, roomcast.v1")
	if got := c.want(`{"hello":*`); strings.Contains(got, id) {
		t.Errorf("got %s, want a new identity for a forged resume string", got)
	}
	d := g.text("/room/" + room + "/?resume=" + resume)
	d.send("from a text session")
	b.want(`{"room":"` + room + `","seq":2,*"from":{"id":"` + id + `","name":"Ann"},*`)
}

// A resume string is a credential. A JSON session sends it as a subprotocol, never in the URL.
// The answer to the handshake must not repeat it.
func TestAnswerDoesNotRepeatTheResumeString(t *testing.T) {
	g := start(t)
	for _, x := range []struct {
		path, offers, want string
		status             int
	}{
		{"/ws", "roomcast.v1, resume.abc", "roomcast.v1", 101},
		{"/ws", "resume.abc,roomcast.v1", "roomcast.v1", 101},
		{"/ws?resume=abc", "roomcast.v1", "", 400},
		{"/room/resume2/?resume=abc", "roomcast.v1, resume.abc", "", 400},
	} {
		c := g.connect()
		c.write([]byte(handshakeOf(x.path, x.offers)))
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Header.Values("Sec-WebSocket-Protocol"); res.StatusCode != x.status || strings.Join(got, ",") != x.want {
			t.Errorf("%s with %s: got %d and %q, want %d and %q", x.path, x.offers, res.StatusCode, got, x.status, x.want)
		}
	}
}

// Each hello contains a new resume string, but all strings of a guest end at the same time as the
// first. In this test, the first string has the form of version 0.1.0.
func TestRenewedResumeStringDoesNotLiveLonger(t *testing.T) {
	g := start(t)
	a, err := auth.New(g.keys, auth.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	issued := time.Now().Add(-29 * 24 * time.Hour).Truncate(time.Second)
	who := a.Anonymous()
	c := g.open("/ws", "roomcast.v1, resume."+a.Sign(who, issued))
	hello := c.want(`{"hello":*`)
	_, rest, _ := strings.Cut(hello, `"resume":"`)
	renewed, _, _ := strings.Cut(rest, `"`)
	if got, err := a.ReadPass(renewed, ""); err != nil || got.Who != who || !got.Issued.Equal(issued) {
		t.Errorf("got %+v, %v, want %v issued at %v", got, err, who, issued)
	}
}

func TestRoomIsClosed(t *testing.T) {
	g := start(t)
	a, j, w := g.text("/room/shut/"), g.json("/room/shut/"), g.json("/ws")
	j.want(`{"hello":*`)
	w.want(`{"hello":*`)
	w.send(`{"id":1,"join":{"room":"shut"}}`)
	w.want(`{"id":1,"ok":{"room":"shut",*`)
	a.send("last words")
	a.hears("last words")
	seq := g.act("shut", proto.ActClose, "done for today")

	a.want("close 4100 the room has been closed: done for today")
	j.want(`{*"text":"last words"}`)
	j.want(fmt.Sprintf(`{"room":"shut","seq":%d,*"kind":"closed","from":{"id":"api"},"why":"done for today"}`, seq))
	j.want("close 4100 the room has been closed: done for today")
	w.want(`{*"text":"last words"}`)
	w.want(`{*"kind":"closed"*}`)
	w.send(`{"id":2,"say":{"room":"shut","text":"more"}}`)
	w.want(`{"id":2,"error":{"code":"room_closed",*`)
	w.send(`{"id":3,"join":{"room":"shut"}}`)
	w.want(`{"id":3,"error":{"code":"room_closed","message":"the room has been closed: done for today"}}`)
	g.text("/room/shut/").want("close 4100 *done for today")

	g.act("shut", proto.ActReopen, "")
	w.send(`{"id":4,"join":{"room":"shut"}}`)
	w.want(`{"id":4,"ok":{"room":"shut",*`)
}

func TestHandshakeRefusals(t *testing.T) {
	g := start(t, func(s *settings) { s.session.HandshakeTime = 300 * time.Millisecond })
	for _, c := range []struct {
		request string
		status  int
	}{
		{handshakeOf("/nowhere", ""), 404},
		{handshakeOf("/echo", ""), 404},
		{handshakeOf("/events", ""), 404}, // only a stream has this path
		{handshakeOf("/ws", ""), 400},
		{handshakeOf("/room/a/b/", ""), 400},
		{handshakeOf("/room/x/?since=x", ""), 400},
		{handshakeOf("/room/x/?since=9007199254740992", ""), 400},
		{handshakeOf("/room/x/?last=-1", ""), 400},
		{handshakeOf("/room/x/?since=1%", ""), 400},
		{"GET /room/x/events?last=%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
		{handshakeOf("/room/x/?after=yesterday", ""), 400},
		{handshakeOf("/room/x/?since=1&last=2", ""), 400},
		{handshakeOf("/room/x/?name=%00", ""), 400},
		{handshakeOf("/room/x/?name="+strings.Repeat("n", 129), ""), 413},
		{strings.Replace(handshakeOf("/room/x/", ""), "Host:", "Origin: https://evil.example\r\nHost:", 1), 403},
		{strings.Replace(handshakeOf("/room/x/", ""), "Host:", "Origin: null\r\nHost:", 1), 403},
		{strings.Replace(handshakeOf("/room/x/", ""), "Version: 13", "Version: 8", 1), 426},
		{strings.Replace(handshakeOf("/room/x/", ""), "Host:", "X: "+strings.Repeat("x", 17_000)+"\r\nHost:", 1), 431},
		{"GET /room/x/ HTTP/1.1\r\nHost: loc", 400}, // the rest of the request never arrives
	} {
		cl := g.connect()
		cl.write([]byte(c.request))
		if got := cl.status(); got != c.status {
			t.Errorf("%.60q: got status %d, want %d", c.request, got, c.status)
		}
		cl.nc.Close()
	}
	for _, origin := range []string{"http://localhost", "http://localhost:80", "http://127.0.0.1:9999"} {
		cl := g.connect()
		cl.write([]byte(strings.Replace(handshakeOf("/room/x/", ""), "Host:", "Origin: "+origin+"\r\nHost:", 1)))
		if got := cl.status(); got != 101 {
			t.Errorf("origin %s: got status %d, want 101", origin, got)
		}
	}
}

// If a request is not a handshake, the loop passes its connection to net/http, with all bytes
// that were received.
func TestPlainHTTP(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable)
		c := g.connect()
		c.write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		nc := <-g.http
		defer nc.Close()
		buf := make([]byte, 100)
		if n, err := nc.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "GET / HTTP/1.1") {
			t.Fatalf("got %q, %v, want the request", buf[:n], err)
		}
		fmt.Fprint(nc, "HTTP/1.1 204 No Content\r\n\r\n")
		if got := c.status(); got != http.StatusNoContent {
			t.Errorf("got status %d, want 204", got)
		}
	})
}

// The room is closed while a member is still receiving the room's log. The gateway must close
// the member's session only after the member has received everything.
func TestRoomIsClosedDuringReplay(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate.PerSecond = 0 })
	const n = 300
	a := g.text("/room/shutlate/")
	for i := range n {
		a.send(fmt.Sprint(i, strings.Repeat(" x", 500)))
	}
	for range n {
		a.next()
	}
	var members []*client
	for range 5 {
		members = append(members, g.json("/room/shutlate/?since=0"))
	}
	w := g.json("/ws")
	w.want(`{"hello":*`)
	w.send(`{"join":{"room":"shutlate","since":0}}`)
	w.want(`{"ok":*`)
	g.act("shutlate", proto.ActClose, "")
	for _, c := range members {
		c.want(`{"hello":*`)
	}
	for _, c := range append(members, w) {
		for seq := 1; seq <= n; seq++ {
			c.want(fmt.Sprintf(`{"room":"shutlate","seq":%d,*}`, seq))
		}
		c.want(fmt.Sprintf(`{"room":"shutlate","seq":%d,*"kind":"closed"*}`, n+1))
	}
	for _, c := range members {
		c.want("close 4100 *")
	}
	w.send(`{"id":9,"leave":{"room":"shutlate"}}`)
	w.want(`{"id":9,"error":{"code":"not_joined"*`)
}

// A resume string contains the name of its session. A name in the URL replaces it, even an empty one.
func TestANameInTheURLReplacesTheNameInAResumeString(t *testing.T) {
	g := start(t)
	hello := g.open("/ws?name=Ann", "roomcast.v1").want(`{"hello":{*"name":"Ann"}*`)
	resume := "roomcast.v1, resume." + resumeIn(t, hello)
	g.open("/ws", resume).want(`{"hello":{*"you":{"id":"` + idIn(hello) + `","name":"Ann"}*`)
	g.open("/ws?name=Annabel", resume).want(`{"hello":{*"you":{"id":"` + idIn(hello) + `","name":"Annabel"}*`)
	g.open("/ws?name=", resume).want(`{"hello":{*"you":{"id":"` + idIn(hello) + `"}*`)
}
