package session_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/auth"
	"roomcast/gateway/limit"
	"roomcast/proto"
)

// streamOf returns the path of a stream of several rooms. A position may follow the name of a
// room, after a "!".
func streamOf(rooms ...string) string {
	return "/events?" + url.Values{"room": rooms}.Encode()
}

// oks reads the answers to the joins of n rooms. It returns the ids in the answers, by room.
func (r *reader) oks(n int) map[string]string {
	r.t.Helper()
	ids := make(map[string]string)
	for range n {
		e := r.want("ok")
		ids[jsonField(r.t, e.data, "room")] = e.id
	}
	return ids
}

// jsonField returns the value of the first string field with the given name.
func jsonField(t testing.TB, data, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(data, `"`+name+`":"`)
	if !found {
		t.Fatalf("%s has no %s", data, name)
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

func (g *gateway) says(room string, texts ...string) {
	g.t.Helper()
	c := g.json("/room/" + room + "/")
	c.want(`{"hello":*`)
	for i, text := range texts {
		c.send(fmt.Sprintf(`{"id":%d,"say":{"text":%q}}`, i, text))
		for !strings.HasPrefix(c.next(), fmt.Sprintf(`{"id":%d,"ok"`, i)) {
		}
	}
	c.nc.Close()
}

// A reader of several rooms reconnects. In each room it must continue at its position, and must
// not miss any event.
func TestReaderOfSeveralRoomsResumesEach(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable)
		one, two := roomName("one"), roomName("two")
		r := g.events(streamOf(one, two))
		if hello := r.want("hello"); hello.id != "" || strings.Contains(hello.data, `"room":"`) || !strings.Contains(hello.data, `"resume":"`) {
			t.Errorf("got %+v, want a hello without a room", hello)
		}
		ids := r.oks(2)
		if ids[one] != "-0" || ids[two] != "-0" {
			t.Errorf("got the positions %v, want the beginning of two empty rooms", ids)
		}
		seen := make(map[string][]string)
		// take reads the given number of answers to joins and of messages, in any order.
		take := func(r *reader, oks, messages int) map[string]string {
			t.Helper()
			joined := make(map[string]string)
			for len(joined) < oks || messages > 0 {
				e := r.wantOne("ok", "message")
				room := jsonField(t, e.data, "room")
				if e.name == "ok" {
					joined[room] = e.id
					continue
				}
				messages--
				ids[room] = e.id
				seen[room] = append(seen[room], jsonField(t, e.data, "text"))
			}
			r.nc.Close()
			return joined
		}
		g.says(one, "1a", "1b")
		g.says(two, "2a")
		take(r, 0, 3)
		g.says(one, "1c")
		g.says(two, "2b", "2c")
		for len(seen[one])+len(seen[two]) < 6 { // interrupt the stream many times; with several rooms, the gateway ignores Last-Event-ID
			r := g.events(streamOf(one+"!"+ids[one], two+"!"+ids[two]), "Last-Event-ID: "+ids[one])
			r.want("hello")
			for room, id := range take(r, 2, 1) {
				if id != "" {
					t.Errorf("the ok of %s has the id %s before a replay", room, id)
				}
			}
		}
		if got := strings.Join(append(seen[one], seen[two]...), " "); got != "1a 1b 1c 2a 2b 2c" {
			t.Errorf("got %s, want every message once", got)
		}
		clear(seen)
		r = g.events(streamOf(one, two) + "&last=1")
		r.want("hello")
		take(r, 2, 2)
		if got := strings.Join(append(seen[one], seen[two]...), " "); got != "1c 2c" {
			t.Errorf("got %s, want the last message of each room", got)
		}
		r = g.events(streamOf(one), "Last-Event-ID: "+ids[one])
		r.want("hello")
		if id := r.oks(1)[one]; id != "" {
			t.Errorf("the header does not count for the only room: got the id %s", id)
		}
	})
}

// The stream goes on if the reader loses one of its rooms. It ends if the reader loses the last
// room.
func TestReaderOfSeveralRoomsLosesThemOneByOne(t *testing.T) {
	g := start(t, withTokens(t))
	one, two, closed := roomName("one"), roomName("two"), roomName("closed")
	g.act(closed, proto.ActClose, "enough")
	token := "Authorization: Bearer " + tokenOf("ann", one+"=read,"+two+"=read,"+closed+"=read", time.Hour)
	r := g.events(streamOf("secret", one, closed, two), token)
	r.want("hello")
	got := make(map[string]string)
	for range 4 {
		e := r.wantOne("ok", "ended")
		got[jsonField(t, e.data, "room")] = e.data
	}
	for room, want := range map[string]string{
		one: `{"ok":{"room":*`, two: `{"ok":{"room":*`,
		"secret": `{"room":"secret","ended":{"code":4106,"reason":"*"}}`,
		closed:   `{"room":"*","ended":{"code":4100,"reason":"the room has been closed: enough"}}`,
	} {
		if !matches(want, got[room]) {
			t.Errorf("%s: got %s, want %s", room, got[room], want)
		}
	}
	g.moderate(one, proto.ActKick, "ann")
	if e := r.want("kicked"); !strings.Contains(e.data, one) {
		t.Errorf("got %+v, want the kick", e)
	}
	if e := r.want("ended"); !strings.Contains(e.data, `"ended":{"code":4101,`) {
		t.Errorf("got %+v, want the end of the membership", e)
	}
	g.act(two, proto.ActClose, "too")
	r.want("closed")
	if e := r.want("close"); e.data != `{"code":4100,"reason":"the room has been closed: too"}` {
		t.Errorf("got %+v, want the end of the last room", e)
	}
	r.ends()
	g.read(streamOf("secret", two), token).refused(http.StatusForbidden, `{"code":4100,"reason":"*"}`)
	g.read(streamOf("secret"), token).refused(http.StatusForbidden, `{"code":4106,"reason":"*"}`)
	g.read(streamOf("secret")).refused(http.StatusUnauthorized, `{"code":4107,"reason":"*"}`)
	g.read(streamOf(one), strings.Replace(token, "Bearer ", "Bearer x", 1)).refused(http.StatusUnauthorized, `{"code":4103,"reason":"*"}`)
}

func TestBadStreamsAreRefused(t *testing.T) {
	g := start(t)
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("room%d", i)
	}
	for path, want := range map[string]int{
		streamOf():                       400,
		streamOf("a*b"):                  400,
		streamOf("lobby", "lobby"):       400,
		streamOf("lobby", "lobby!e-1"):   400,
		streamOf("lobby!e"):              400,
		streamOf("lobby!"):               400,
		streamOf(many...):                400,
		streamOf(many[1:]...):            200,
		streamOf("lobby") + "&since=x":   400,
		"/elsewhere" + streamOf("lobby"): 404,
	} {
		if r := g.read(path); r.status != want {
			t.Errorf("%.60s: got status %d, want %d", path, r.status, want)
		}
	}
}

// A guest that returns with the resume string from its hello is the same sender as before.
func TestReaderIsTheSameGuestByItsResume(t *testing.T) {
	g := start(t)
	hello := g.events(streamOf("lobby") + "&name=Ann").want("hello").data
	resume := "Roomcast-Resume: " + jsonField(t, hello, "resume")
	for _, path := range []string{streamOf("lobby"), "/room/lobby/events"} {
		again := g.events(path, resume).want("hello").data
		if a, b := jsonField(t, hello, "id"), jsonField(t, again, "id"); a != b || !strings.Contains(again, `"name":"Ann"`) {
			t.Errorf("%s: got %s, want the guest of %s", path, again, hello)
		}
	}
}

// Every answer to a page of an allowed origin names this origin, as browsers require. The
// gateway refuses pages of other origins.
func TestEventsNameTheOriginOfAnAllowedPage(t *testing.T) {
	const page = "https://app.example.org"
	g := start(t, withTokens(t), func(s *settings) { s.auth.AllowOrigins = []string{page} })
	for name, tt := range map[string]struct {
		headers []string
		status  int
		origin  string
	}{
		"a stream":          {[]string{"Origin: " + page, "Authorization: Bearer " + tokenOf("ann", "", time.Hour)}, 200, page},
		"no token":          {[]string{"Origin: " + page}, 401, page},
		"an expired token":  {[]string{"Origin: " + page, "Authorization: Bearer " + tokenOf("ann", "", -time.Hour)}, 401, page},
		"no right":          {[]string{"Origin: " + page, "Authorization: Bearer " + tokenOf("ann", "x=read", time.Hour)}, 403, page},
		"a foreign page":    {[]string{"Origin: https://evil.example.org", "Authorization: Bearer " + tokenOf("ann", "", time.Hour)}, 403, ""},
		"an image":          {[]string{"Sec-Fetch-Site: cross-site", "Authorization: Bearer " + tokenOf("ann", "", time.Hour)}, 403, ""},
		"no page":           {[]string{"Authorization: Bearer " + tokenOf("ann", "", time.Hour)}, 200, ""},
		"a page of a frame": {[]string{"Origin: null", "Authorization: Bearer " + tokenOf("ann", "", time.Hour)}, 403, ""},
	} {
		for _, path := range []string{streamOf("lobby"), "/room/lobby/events"} {
			r := g.read(path, tt.headers...)
			vary := ""
			if tt.origin != "" {
				vary = "Origin"
			}
			if got := r.header.Get("Access-Control-Allow-Origin"); r.status != tt.status || got != tt.origin || r.header.Get("Vary") != vary {
				t.Errorf("%s: got status %d, origin %q, want %d, %q; %v", name, r.status, got, tt.status, tt.origin, r.header)
			}
		}
	}
}

// A revocation ends the streams of the id. The revoked token opens no new ones.
func TestRevocationEndsReadersOfEvents(t *testing.T) {
	g := start(t, withTokens(t))
	token := "Authorization: Bearer " + tokenOf("ann", "", time.Hour)
	r := g.events(streamOf("lobby"), token)
	r.want("hello")
	r.oks(1)
	g.auth.Revoked().Add([]proto.Revocation{{ID: "ann", At: time.Now().Add(time.Second).UnixMilli()}})
	if e := r.want("close"); !strings.HasPrefix(e.data, `{"code":4103,`) {
		t.Errorf("got %+v, want the revocation", e)
	}
	r.ends()
	g.read(streamOf("lobby"), token).refused(http.StatusUnauthorized, `{"code":4103,"reason":"*"}`)
}

// A revocation ends a stream whose rooms are still being joined. Nothing of the joins remains.
func TestRevocationEndsAStreamThatWaitsForItsRooms(t *testing.T) {
	var away atomic.Bool
	g := start(t, withTokens(t), func(s *settings) {
		s.loop.Loops, s.session.TextPatience = 1, time.Minute
		s.dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			return dialNATS(name, append(opts, nats.SetCustomDialer(dialer(func(network, addr string) (net.Conn, error) {
				conn, err := net.Dial(network, addr)
				return mute{conn, &away}, err
			})))...)
		}
	})
	away.Store(true)
	c := g.connect()
	c.write([]byte("GET " + streamOf("lobby", "attic") + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + tokenOf("ann", "", time.Hour) + "\r\n\r\n"))
	// These are the joins of two rooms, and the answer to the request.
	eventually(t, "the joins", func() bool { return g.leftovers() == "[1 in streams 3 in joins]" })
	g.auth.Revoked().Add([]proto.Revocation{{ID: "ann", At: time.Now().Add(time.Second).UnixMilli()}})
	if got := c.status(); got != http.StatusUnauthorized {
		t.Errorf("got status %d, want 401", got)
	}
	c.nc.Close()
	eventually(t, "the session to end", func() bool { return g.sessions[0].Stats().Sockets.Load() == 0 })
	away.Store(false)
}

// A stream ends if the gateway cannot follow one of its rooms. Nothing of the joins remains.
func TestStreamEndsIfARoomCannotBeFollowed(t *testing.T) {
	g := start(t, func(s *settings) { s.loop.Loops, s.bridge.Follow.MaxRooms = 1, 1 })
	run := time.Now().UnixNano()
	r := g.read(streamOf(fmt.Sprintf("one_%d", run), fmt.Sprintf("two_%d", run)))
	if body, _ := io.ReadAll(r.body); !strings.Contains(string(body), `"code":4004`) {
		t.Errorf("got status %d, %s, want 4004", r.status, body)
	}
}

func TestExpiryEndsReadersOfEvents(t *testing.T) {
	g := start(t, withTokens(t))
	r := g.events(streamOf("lobby"), "Authorization: Bearer "+tokenOf("ann", "", 1100*time.Millisecond-auth.Leeway))
	r.want("hello")
	r.oks(1)
	if e := r.want("close"); !strings.HasPrefix(e.data, `{"code":4003,`) {
		t.Errorf("got %+v, want the end of the token", e)
	}
	r.ends()
}

// The gateway believes X-Forwarded-For only from a trusted proxy.
func TestSessionsCountForClientsBehindATrustedProxy(t *testing.T) {
	proxies, err := limit.ParseProxies([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, func(s *settings) { s.caps = limit.CapsConfig{PerAddress: 2, Proxies: proxies} })
	from := func(client string) int {
		r := g.read("/room/lobby/events", "X-Forwarded-For: "+client)
		return r.status
	}
	for i, tt := range []struct {
		client string
		status int
	}{
		{"203.0.113.9", 200}, {"198.51.100.1, 203.0.113.9", 200}, {"203.0.113.9, 127.0.0.1", 503},
		{"198.51.100.1", 200}, {"2001:db8::1", 200}, {"2001:db8::2", 200}, {"2001:db8::3", 503}, {"2001:db8:0:1::3", 200},
	} {
		if got := from(tt.client); got != tt.status {
			t.Errorf("request %d from %s: got %d, want %d", i, tt.client, got, tt.status)
		}
	}
	r := g.read("/room/lobby/events", "X-Forwarded-For: 192.0.2.7")
	r.nc.Close()
	eventually(t, "the closed stream not to count", func() bool {
		a, b := g.read("/room/lobby/events", "X-Forwarded-For: 192.0.2.7"), g.read("/room/lobby/events", "X-Forwarded-For: 192.0.2.7")
		defer a.nc.Close()
		defer b.nc.Close()
		return a.status == 200 && b.status == 200
	})

	untrusting := start(t, func(s *settings) { s.caps = limit.CapsConfig{PerAddress: 2} })
	for i, want := range []int{200, 200} {
		if r := untrusting.read("/room/lobby/events", fmt.Sprintf("X-Forwarded-For: 192.0.2.%d", i)); r.status != want {
			t.Errorf("request %d: got %d, want %d", i, r.status, want)
		}
	}
	c := untrusting.connect()
	if got := c.status(); got != 503 {
		t.Errorf("a third connection of the untrusted peer: got %d, want 503", got)
	}
}

// A trusted proxy names the Host and the scheme that the client has used. They decide which pages
// are the gateway's own pages.
func TestPagesBehindATrustedProxy(t *testing.T) {
	proxies, err := limit.ParseProxies([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		origin, proto, host string
		trusted, untrusted  int
	}{
		{"https://chat.example.org", "https", "chat.example.org", 200, 403},
		{"http://chat.example.org", "https", "chat.example.org", 403, 403},
		{"https://chat.example.org", "", "evil.example.org, chat.example.org", 200, 403},
		{"https://evil.example.org", "https", "evil.example.org, chat.example.org", 403, 403},
		{"https://gateway.internal", "https", "", 200, 200},
		{"http://gateway.internal", "http, https", "", 403, 200},
	} {
		for caps, want := range map[*limit.CapsConfig]int{{Proxies: proxies}: tt.trusted, {}: tt.untrusted} {
			g := start(t, func(s *settings) { s.caps = *caps })
			headers := []string{"Host: gateway.internal", "Origin: " + tt.origin}
			if tt.proto != "" {
				headers = append(headers, "X-Forwarded-Proto: "+tt.proto)
			}
			if tt.host != "" {
				headers = append(headers, "X-Forwarded-Host: "+tt.host)
			}
			if r := g.readAs("/room/lobby/events", headers...); r.status != want {
				t.Errorf("%+v: got %d, want %d", tt, r.status, want)
			}
		}
	}
}

// A gateway that stops tells JSON sessions and readers of events. Text sessions get only messages.
func TestSessionsAreToldOfADrain(t *testing.T) {
	g := start(t, func(s *settings) { s.loop.Loops = 1 })
	one, several := g.events("/room/drain/events"), g.events(streamOf("drain"))
	one.want("hello")
	several.want("hello")
	several.oks(1)
	inRoom, inNone, plain := g.json("/room/drain/"), g.json("/ws"), g.text("/room/drain/")
	inRoom.want(`{"hello":*`)
	inNone.want(`{"hello":*`)
	g.loops[0].Post(func() { g.sessions[0].Warn(10 * time.Second) })
	const told = `{"drain":{"in":"10s"}}`
	for _, r := range []*reader{one, several} {
		if e := r.want("drain"); e.id != "" || e.data != told {
			t.Errorf("got %+v, want the drain", e)
		}
	}
	for _, c := range []*client{inRoom, inNone} {
		c.want(told)
	}
	g.loops[0].Post(func() { g.sessions[0].Drain(10) })
	for _, c := range []*client{inRoom, inNone, plain} {
		c.want("close 1001 *")
	}
}
