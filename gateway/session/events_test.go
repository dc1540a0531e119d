package session_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/session"
	"roomcast/proto"
)

// reader is a reader of Server-Sent Events.
type reader struct {
	t      testing.TB
	nc     net.Conn
	status int
	header http.Header
	body   *bufio.Reader
}

// event is one event as a browser's EventSource would report it.
type event struct{ id, name, data string }

// read sends a request for events. Headers are whole header lines.
func (g *gateway) read(path string, headers ...string) *reader {
	g.t.Helper()
	return g.readAs(path, append(headers, "Host: localhost")...)
}

// readAs is like read, but does not add a Host. The headers must include one.
func (g *gateway) readAs(path string, headers ...string) *reader {
	g.t.Helper()
	c := g.connect()
	request := "GET " + path + " HTTP/1.1\r\n"
	for _, h := range headers {
		request += h + "\r\n"
	}
	c.write([]byte(request + "\r\n"))
	c.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		g.t.Fatalf("read answer: %v", err)
	}
	return &reader{t: g.t, nc: c.nc, status: res.StatusCode, header: res.Header, body: bufio.NewReader(res.Body)}
}

// events is like read, but fails if the gateway refuses the request.
func (g *gateway) events(path string, headers ...string) *reader {
	g.t.Helper()
	r := g.read(path, headers...)
	if r.status != http.StatusOK {
		g.t.Fatalf("%s: got status %d, want 200", path, r.status)
	}
	return r
}

// any returns the next event or comment. Its error is the error of the stream.
func (r *reader) any() (e event, err error) {
	r.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		line, err := r.body.ReadString('\n')
		if err != nil {
			return e, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		switch value = strings.TrimPrefix(value, " "); {
		case line == "\n":
			return e, nil
		case field == "":
			e.name = "comment"
		case field == "id":
			e.id = value
		case field == "event":
			e.name = value
		case field == "data":
			e.data += value
		default:
			r.t.Fatalf("got the line %q", line)
		}
	}
}

// want returns the next event that is not a join or leave. It fails if the event has another
// name.
func (r *reader) want(name string) event {
	r.t.Helper()
	return r.wantOne(name)
}

// wantOne is like want, but allows several names.
func (r *reader) wantOne(names ...string) event {
	r.t.Helper()
	for {
		e, err := r.any()
		if err != nil {
			r.t.Fatalf("read event: %v", err)
		}
		if slices.Contains(names, e.name) {
			return e
		}
		if e.name != "joined" && e.name != "left" {
			r.t.Fatalf("got %+v, want %s", e, names)
		}
	}
}

// messages reads the messages in the given range of numbers, and returns the last. The range
// includes both ends.
func (r *reader) messages(from, to int) (last event) {
	r.t.Helper()
	for seq := from; seq <= to; seq++ {
		last = r.want("message")
		if !strings.Contains(last.data, fmt.Sprintf(`"seq":%d,`, seq)) {
			r.t.Fatalf("got %s, want seq %d", last.data, seq)
		}
	}
	return last
}

// refused checks that the request was refused in a way that stops a browser from trying again.
func (r *reader) refused(status int, data string) {
	r.t.Helper()
	body, err := io.ReadAll(r.body)
	if got := string(body); r.status != status || !matches(data+"\n", got) {
		r.t.Errorf("got status %d, %s, %v, want %d, %s", r.status, got, err, status, data)
	}
}

// ends waits for the end of the stream, and fails if the stream does not end.
func (r *reader) ends() {
	r.t.Helper()
	if e, err := r.any(); err != io.EOF {
		r.t.Fatalf("got %+v, %v, want the end of the stream", e, err)
	}
}

func roomName(prefix string) string { return fmt.Sprintf("%s_%d", prefix, time.Now().UnixNano()) }

// A reader that reconnects with the id of its last event receives every later event exactly
// once. It does not matter where the stream was interrupted.
func TestReaderOfEventsResumesExactly(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, func(s *settings) { s.session.Rate.PerSecond = 0 })
		room := roomName("sse")
		path := "/room/" + room + "/events"
		r := g.events(path)
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		hello := r.want("hello")
		if hello.id != "-0" || !strings.Contains(hello.data, `"room":"`+room+`","seq":0`) {
			t.Errorf("got %+v, want a hello at the beginning of the room", hello)
		}
		r.nc.Close()
		sender := g.json("/room/" + room + "/")
		sender.want(`{"hello":*`)
		const n = 20
		for seq := 1; seq <= n; seq++ {
			sender.send(fmt.Sprintf(`{"id":%d,"say":{"text":"line\nbreak"}}`, seq))
			for !strings.HasPrefix(sender.next(), fmt.Sprintf(`{"id":%d,`, seq)) {
			}
		}
		id := hello.id
		for at := 1; at <= n; at += 3 { // interrupt the stream many times
			r := g.events(path+"?last=1", "Last-Event-ID: "+id)
			if hello := r.want("hello"); hello.id != "" {
				t.Errorf("a hello before a replay has the id %s", hello.id)
			}
			id = r.messages(at, min(at+2, n)).id
			r.nc.Close()
		}
		r = g.events(path + "?since=17")
		r.want("hello")
		r.messages(18, n)
		r = g.events(path)
		if hello := r.want("hello"); hello.id != id {
			t.Errorf("hello has the id %s, want that of the newest event, %s", hello.id, id)
		}
		r.nc.Close()
		sender.send(`{"say":{"text":"meanwhile"}}`)
		r = g.events(path, "Last-Event-ID: "+id)
		r.want("hello")
		r.messages(n+1, n+1)
		sender.send(`{"say":{"text":"live"}}`)
		r.messages(n+2, n+2)
	})
}

func TestReaderOfEventsReceivesGaps(t *testing.T) {
	g := start(t)
	room := roomName("ssegap")
	path := "/room/" + room + "/events"
	storeMany(t, room, "e", 5, 8, epochBegin, "kept")

	r := g.events(path + "?since=2&epoch=e")
	r.want("hello")
	gap := r.want("gap")
	if gap.id != "e-4" || !strings.Contains(gap.data, `"from":3,"to":4,"reason":"trimmed"`) {
		t.Errorf("got %+v, want a gap from 3 to 4", gap)
	}
	last := r.messages(5, 8)
	if want := fmt.Sprintf("e-8-%d", epochBegin.UnixMilli()+8); last.id != want {
		t.Errorf("the newest event has the id %s, want %s", last.id, want)
	}

	for name, id := range map[string]string{"another epoch": "f-8", "beyond the head": "e-9", "another event": "e-8-1000"} {
		r := g.events(path, "Last-Event-ID: "+id)
		r.want("hello")
		gap := r.want("gap")
		if gap.id != "e-0" || !strings.Contains(gap.data, `"reason":"reset","epoch":"e"`) {
			t.Errorf("%s: got %+v, want a reset", name, gap)
		}
		r.messages(5, 8)
	}
	r = g.events(path, "Last-Event-ID: e-8") // an id without a time
	r.want("hello")
	g.text("/room/" + room + "/").send("next")
	r.messages(9, 9)
}

// A browser tries again after the end of a stream, and gives up after a refusal. So if a room is
// closed, its readers receive the close first, and later requests are refused.
func TestClosedRoomEndsReadersOfEvents(t *testing.T) {
	g := start(t)
	room := roomName("sseclosed")
	path := "/room/" + room + "/events"
	r := g.events(path)
	r.want("hello")
	g.act(room, proto.ActClose, "enough")
	if e := r.want("closed"); !strings.Contains(e.data, `"kind":"closed"`) {
		t.Errorf("got %+v, want the closing", e)
	}
	if e := r.want("close"); e.data != `{"code":4100,"reason":"the room has been closed: enough"}` {
		t.Errorf("got %+v, want the code and the reason", e)
	}
	r.ends()
	g.read(path).refused(http.StatusForbidden, `{"code":4100,"reason":"the room has been closed: enough"}`)
	g.act(room, proto.ActReopen, "")
	r = g.events(path + "?since=1")
	r.want("hello")
	r.want("reopened")
}

// The gateway ends the stream of a reader that reads nothing. The other members of the room do
// not notice it.
func TestSlowReaderOfEventsIsEnded(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, func(s *settings) {
			s.session.Rate.PerSecond = 0
			s.session.SlowTime = 2 * time.Second
			s.session.Hub.RoomBytes = 64 << 10
			s.loop.SendBuffer = 4 << 10
		})
		room := roomName("sseslow")
		path := "/room/" + room + "/events"
		stuck, fast := g.events(path), g.events(path)
		stuck.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
		fast.want("hello")
		sender := g.json("/room/" + room + "/")
		sender.want(`{"hello":*`)
		const n = 150
		for seq := 1; seq <= n; seq++ {
			g.stuff(sender, room, 1, 8000)
			fast.messages(seq, seq)
		}
		eventually(t, "the stuck reader to be closed", func() bool {
			return g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Closes(proto.CloseSlow) }) == 1
		})
		eventually(t, "it to be gone", func() bool {
			return g.sum(func(ss *session.Sessions) uint64 { return uint64(ss.Stats().Sockets.Load()) }) == 2
		})
	})
}

// A reader that falls behind the ring receives the missing events from the log, each once and in
// order.
func TestLateReaderOfEventsIsServedFromTheLog(t *testing.T) {
	g := start(t, func(s *settings) {
		s.session.Rate.PerSecond = 0
		s.session.SlowTime = time.Minute
		s.session.Hub.RoomBytes = 32 << 10
	})
	room := roomName("sselate")
	late := g.events("/room/" + room + "/events")
	late.want("hello")
	sender := g.json("/room/" + room + "/")
	sender.want(`{"hello":*`)
	const n = 80
	g.stuff(sender, room, n, 40_000)
	eventually(t, "the reader to fall behind", func() bool {
		return g.sum(func(ss *session.Sessions) uint64 { return ss.Hub().Stats().FellBehind.Load() }) > 0
	})
	late.messages(1, n)
}

func TestReaderOfEventsIsPresentAndReceivesSignals(t *testing.T) {
	g := start(t, func(s *settings) { s.session.PingAfter = time.Second })
	room := roomName("ssepresence")
	r := g.events("/room/" + room + "/events?name=Ann")
	r.want("hello")
	other := g.json("/room/" + room + "/")
	other.want(`{"hello":*`)
	other.send(`{"signal":{"type":"typing"}}`)
	if e := r.want("signal"); e.id != "" || !strings.Contains(e.data, `"signal":{"type":"typing"`) {
		t.Errorf("got %+v, want a signal without an id", e)
	}
	eventually(t, "the reader to be a member", func() bool {
		other.send(`{"id":"m","members":{}}`)
		for {
			if got := other.next(); strings.HasPrefix(got, `{"id":"m"`) {
				return strings.Contains(got, `"name":"Ann"`)
			}
		}
	})
	r.want("comment") // the heartbeat is a comment
	r.nc.Close()
	for {
		m, err := other.read()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m.body, `"left":`) && strings.Contains(m.body, `"name":"Ann"`) {
			if !strings.Contains(m.body, `"reason":"client"`) {
				t.Errorf("got %s, want the leave of the reader", m.body)
			}
			return
		}
	}
}

func TestReadersOfEventsNeedTheSameRightsAsSessions(t *testing.T) {
	g := start(t, withTokens(t), func(s *settings) { s.session.Cookie = "login" })
	open := start(t)
	for name, test := range map[string]struct {
		g      *gateway
		path   string
		header string
		status int
	}{
		"no token":             {g, "/room/lobby/events", "Accept: */*", 401},
		"bad token":            {g, "/room/lobby/events", "Authorization: Bearer nonsense", 401},
		"expired token":        {g, "/room/lobby/events", "Authorization: Bearer " + tokenOf("ann", "", -time.Minute), 401},
		"no right":             {g, "/room/lobby/events", "Authorization: Bearer " + tokenOf("ann", "x=read", time.Hour), 403},
		"token":                {g, "/room/lobby/events", "Authorization: Bearer " + tokenOf("ann", "", time.Hour), 200},
		"cookie":               {g, "/room/lobby/events", "Sec-Fetch-Site: same-origin\r\nCookie: login=" + tokenOf("ann", "", time.Hour), 200},
		"cookie, another site": {g, "/room/lobby/events", "Sec-Fetch-Site: same-site\r\nCookie: login=" + tokenOf("ann", "", time.Hour), 401},
		"foreign page":         {open, "/room/lobby/events", "Origin: https://example.org", 403},
		"bad room":             {open, "/room/a*b/events", "Accept: */*", 400},
		"bad position":         {open, "/room/lobby/events", "Last-Event-ID: e", 400},
		"two ways to continue": {open, "/room/lobby/events?since=1&last=2", "Accept: */*", 400},
		"body":                 {open, "/room/lobby/events", "Content-Length: 5", 400},
		"other path":           {open, "/elsewhere/room/lobby/events", "Accept: */*", 404},
	} {
		if r := test.g.read(test.path, test.header); r.status != test.status {
			t.Errorf("%s: got status %d, want %d", name, r.status, test.status)
		}
	}
}

func TestDrainEndsReadersOfEvents(t *testing.T) {
	g := start(t, func(s *settings) { s.loop.Loops = 1 })
	r := g.events("/room/ssedrain/events")
	r.want("hello")
	g.loops[0].Post(func() { g.sessions[0].Drain(10) })
	if e := r.want("close"); !strings.HasPrefix(e.data, `{"code":1001,`) {
		t.Errorf("got %+v, want the stop of the gateway", e)
	}
	r.ends()
}

// Event loops serve readers of events like sessions, without a goroutine for each.
func TestReadersOfEventsCostNoGoroutine(t *testing.T) {
	g := start(t)
	g.events("/room/ssemany/events").want("hello")
	before := runtime.NumGoroutine()
	const readers = 100
	for range readers {
		g.events("/room/ssemany/events").want("hello")
	}
	if more := runtime.NumGoroutine() - before; more > readers/10 {
		t.Errorf("%d readers cost %d goroutines", readers, more)
	}
}
