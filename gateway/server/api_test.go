package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"roomcast/gateway/server/servertest"
)

func TestAPIAnswersAsDocumented(t *testing.T) {
	base := servertest.Serve(t, "--max-message", "1000")
	rooms := base + "api/rooms"
	lobby := rooms + "/" + url.PathEscape("聊天室1")
	member := servertest.Join(t, base, "room/聊天室1/")
	const jsonType, textType = "application/json", "text/plain; charset=utf-8"
	for _, tt := range []struct {
		name, method, url, body string
		header                  []string
		status                  int
		part                    string
	}{
		{"text", "POST", lobby + "/messages", "你好", []string{"Content-Type", textType}, 200, `{"ok":{"seq":1,`},
		{"JSON with a key", "POST", lobby + "/messages", `{"text":"hi","key":"k1"}`, []string{"Content-Type", jsonType}, 200, `"seq":2,`},
		{"the same again", "POST", lobby + "/messages", `{"text":"hi"}`, []string{"Content-Type", jsonType, "Idempotency-Key", "k1"}, 200, `"seq":2,`},
		{"and again, quoted", "POST", lobby + "/messages", `{"text":"hi"}`, []string{"Content-Type", jsonType, "Idempotency-Key", `"k1"`}, 200, `"duplicate":true`},
		{"an application event", "POST", lobby + "/messages", `{"data":{"n":1},"type":"xx.oo"}`, []string{"Content-Type", jsonType}, 200, `"seq":3,`},
		{"for somebody", "POST", lobby + "/messages?from=bot.1&name=Bot", "beep", []string{"Content-Type", textType}, 200, `"seq":4,`},

		{"two keys", "POST", lobby + "/messages", `{"text":"hi","key":"k1"}`, []string{"Content-Type", jsonType, "Idempotency-Key", "k2"}, 400, "bad_request"},
		{"a bad key", "POST", lobby + "/messages", "x", []string{"Content-Type", textType, "Idempotency-Key", "a b"}, 400, "bad_request"},
		{"another room in the body", "POST", lobby + "/messages", `{"text":"x","room":"other"}`, []string{"Content-Type", jsonType}, 400, "different rooms"},
		{"an empty key", "POST", lobby + "/messages", `{"text":"x","key":""}`, []string{"Content-Type", jsonType}, 400, "bad_request"},
		{"an empty header", "POST", lobby + "/messages", "x", []string{"Content-Type", textType, "Idempotency-Key", ""}, 400, "bad_request"},
		{"an empty quoted header", "POST", lobby + "/messages", "x", []string{"Content-Type", textType, "Idempotency-Key", `""`}, 400, "bad_request"},
		{"a misspelled sender", "POST", lobby + "/messages?frm=zoe", "x", []string{"Content-Type", textType}, 400, `\"frm\" is not a parameter`},
		{"a parameter of an act", "POST", lobby + "/close?why=done", "", nil, 400, `\"why\" is not a parameter`},
		{"a parameter of a signal", "POST", lobby + "/signal?type=x", `{"type":"x"}`, []string{"Content-Type", jsonType}, 400, `\"type\" is not a parameter`},
		{"a parameter of a ticket", "POST", base + "api/tickets?id=ann", `{"id":"ann","rooms":["lobby"]}`, []string{"Content-Type", jsonType}, 400, `\"id\" is not a parameter`},
		{"a parameter of a revocation", "POST", base + "api/revoke?id=ann", `{"id":"ann"}`, []string{"Content-Type", jsonType}, 400, `\"id\" is not a parameter`},
		{"revoke a list", "POST", base + "api/revoke", `{"id":[]}`, []string{"Content-Type", jsonType}, 400, "but id must be a string"},
		{"revoke perhaps", "POST", base + "api/revoke", `{"id":"ann","reconnect":1}`, []string{"Content-Type", jsonType}, 400, "but reconnect must be true or false"},
		{"broken JSON", "POST", lobby + "/messages", `{"text":`, []string{"Content-Type", jsonType}, 400, "bad_request"},
		{"a second command behind the first", "POST", lobby + "/messages", `{"text":"x"},"leave":{}`, []string{"Content-Type", jsonType}, 400, "bad_request"},
		{"no type", "POST", lobby + "/messages", "x", []string{"Content-Type", ""}, 400, "Content-Type"},
		{"a form", "POST", lobby + "/messages", "x", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, "Content-Type"},
		{"not UTF-8", "POST", lobby + "/messages", "\xff", []string{"Content-Type", textType}, 400, "UTF-8"},
		{"too long", "POST", lobby + "/messages", strings.Repeat("x", 1001), []string{"Content-Type", textType}, 413, "at most 1000"},
		{"all escapes", "POST", rooms + "/escapes/messages", `{"text":"` + strings.Repeat(`\u0001`, 1000) + `"}`, []string{"Content-Type", jsonType}, 200, `"seq":1,`},
		{"too many escapes", "POST", rooms + "/escapes/messages", `{"text":"` + strings.Repeat(`\u0001`, 1001) + `"}`, []string{"Content-Type", jsonType}, 413, "at most 1000"},
		{"far too long", "POST", lobby + "/messages", strings.Repeat("x", 1<<20), []string{"Content-Type", textType}, 413, "too_large"},
		{"a close word", "POST", lobby + "/messages", "关闭", []string{"Content-Type", textType}, 409, "closed_by_word"},
		{"an empty type", "POST", lobby + "/signal", `{"type":""}`, []string{"Content-Type", jsonType}, 400, "bad_request"},
		{"nobody", "POST", lobby + "/mute", `{"member":""}`, []string{"Content-Type", jsonType}, 400, "bad_request"},
		{"a bad room", "POST", rooms + "/a.b./messages", "x", []string{"Content-Type", textType}, 400, "bad_room"},
		{"a wildcard", "POST", rooms + "/%3E/messages", "x", []string{"Content-Type", textType}, 400, "bad_room"},
		{"a bad sender", "POST", lobby + "/messages?from=a%00b", "x", []string{"Content-Type", textType}, 400, "bad_request"},

		{"history", "GET", lobby + "/messages", "", nil, 200, `],"more":false,"seq":4,"epoch":"`},
		{"the last", "GET", lobby + "/messages?last=1", "", nil, 200, `{"room":"聊天室1","events":[{"room":"聊天室1","seq":4,`},
		{"the last, and a smaller limit", "GET", lobby + "/messages?last=3&limit=1", "", nil, 200, `{"room":"聊天室1","events":[{"room":"聊天室1","seq":4,`},
		{"the last, and a larger limit", "GET", lobby + "/messages?limit=9&last=1", "", nil, 200, `{"room":"聊天室1","events":[{"room":"聊天室1","seq":4,`},
		{"none", "GET", lobby + "/messages?last=0", "", nil, 400, "not a whole number of at least 1"},
		{"since", "GET", lobby + "/messages?since=3", "", nil, 200, `"from":{"id":"bot.1","name":"Bot"},"text":"beep"`},
		{"before", "GET", lobby + "/messages?before=2", "", nil, 200, `"text":"你好"`},
		{"beyond the end", "GET", lobby + "/messages?since=99", "", nil, 200, `"reason":"reset"`},
		{"an empty room", "GET", rooms + "/nobody/messages", "", nil, 200, `{"room":"nobody","events":[],"more":false,"seq":0,"epoch":""}`},
		{"two bounds", "GET", lobby + "/messages?since=1&last=1", "", nil, 400, "one of since, last and after"},
		{"no number", "GET", lobby + "/messages?since=-1", "", nil, 400, "not a number"},
		{"before the beginning", "GET", lobby + "/messages?before=0", "", nil, 400, "not a whole number of at least 1"},
		{"no events", "GET", lobby + "/messages?limit=0", "", nil, 400, "not a whole number of at least 1"},
		{"a long page", "GET", lobby + "/messages?limit=100000", "", nil, 200, `],"more":false,"seq":4,"epoch":"`},
		{"no time", "GET", lobby + "/messages?after=noon", "", nil, 400, "not a time"},
		{"an unknown parameter", "GET", lobby + "/messages?lats=1", "", nil, 400, "not a parameter"},

		{"members", "GET", lobby + "/members", "", nil, 200, `{"room":"聊天室1","count":1,"members":[{"id":"anon-`},
		{"rooms, sorted by name", "GET", rooms, "", nil, 200, `{"rooms":[{"room":"escapes","messages":1},{"room":"聊天室1","messages":4}]}`},
		{"nothing there", "GET", base + "api/nothing", "", nil, 404, "not_found"},
		{"a wrong method", "DELETE", lobby + "/messages", "", nil, 404, "not_found"},

		{"close", "POST", lobby + "/close", `{"why":"done for today"}`, []string{"Content-Type", jsonType}, 200, `"seq":5,`},
		{"close with nonsense", "POST", lobby + "/close", `{"because":1}`, []string{"Content-Type", jsonType}, 400, "bad_request"},
		{"late", "POST", lobby + "/messages", "late", []string{"Content-Type", textType}, 409, "room_closed"},
		{"closed in history", "GET", lobby + "/messages?last=1", "", nil, 200, `"closed":true,"why":"done for today"`},
		{"reopen", "POST", lobby + "/reopen", "", nil, 200, `"seq":6,`},
		{"open again", "POST", lobby + "/messages", "again", []string{"Content-Type", textType}, 200, `"seq":7,`},
	} {
		status, answer := servertest.Call(t, tt.method, tt.url, tt.body, tt.header...)
		if status != tt.status || !strings.Contains(answer, tt.part) {
			t.Errorf("%s: got %d %.300s, want %d with %s", tt.name, status, answer, tt.status, tt.part)
		}
		if !json.Valid([]byte(answer)) {
			t.Errorf("%s: got %.300q, want JSON", tt.name, answer)
		}
	}
	servertest.Hear(t, member, " 你好")
	servertest.Hear(t, member, " hi")
	servertest.Hear(t, member, ` {"n":1}`)
	servertest.Hear(t, member, " beep")
	// After the reopening, the member may receive new messages before the gateway tells it of the
	// close.
	got, code := servertest.Next(t, member)
	for code == 0 && strings.HasSuffix(got, " again") {
		got, code = servertest.Next(t, member)
	}
	if code != 4100 {
		t.Errorf("the member of a closed room got %q, %d, want to be closed with 4100", got, code)
	}
}

// A page holds at most 256 events, and the newest events are among them.
func TestLastOverHTTPReturnsTheNewestEvents(t *testing.T) {
	base := servertest.Serve(t, "--rate", "0")
	const sent = 300
	member := servertest.Join(t, base, "room/lobby/", "roomcast.v1")
	for i := range sent {
		frame := fmt.Sprintf(`{"id":%d,"say":{"text":"x"}}`, i)
		if err := member.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
			t.Fatal(err)
		}
		for got := ""; (i+1)%20 == 0 && !strings.Contains(got, fmt.Sprintf(`{"id":%d,"ok"`, i)); { // few messages may wait for their answers
			var code websocket.StatusCode
			if got, code = servertest.Next(t, member); code != 0 {
				t.Fatalf("closed with %d", code)
			}
		}
	}
	for query, want := range map[string]struct {
		first, count int
	}{
		"last=100": {201, 100}, "last=300": {45, 256}, "last=5000": {45, 256}, "last=1": {300, 1}, "": {237, 64}, "last=": {237, 64},
		"last=100&limit=10": {291, 10}, "limit=100": {201, 100},
	} {
		status, answer := servertest.Call(t, "GET", base+"api/rooms/lobby/messages?"+query, "")
		var page struct {
			Events []struct{ Seq int }
			More   bool
		}
		if err := json.Unmarshal([]byte(answer), &page); err != nil || status != 200 || len(page.Events) != want.count {
			t.Errorf("%q: got %d with %d events, %v, want %d events", query, status, len(page.Events), err, want.count)
			continue
		}
		if first, last := page.Events[0].Seq, page.Events[len(page.Events)-1].Seq; first != want.first || last != sent || !page.More {
			t.Errorf("%q: got events %d to %d, more %v, want %d to %d and more", query, first, last, page.More, want.first, sent)
		}
	}
}

// Without a token, programs on this machine may use the API. Pages in a browser on this machine
// may not.
func TestAPIWithoutTokenIsForProgramsOfThisMachine(t *testing.T) {
	base := servertest.Serve(t)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	const jsonType, textType = "application/json", "text/plain"
	for _, tt := range []struct {
		name   string
		header []string
		status int
	}{
		{"a program", []string{"Content-Type", textType}, 200},
		{"as localhost", []string{"Content-Type", textType, "Host", "localhost:" + u.Port()}, 200},
		{"our page", []string{"Content-Type", jsonType, "Origin", strings.TrimSuffix(base, "/")}, 200},
		{"our page, a plain form", []string{"Content-Type", textType, "Origin", strings.TrimSuffix(base, "/")}, 401},
		{"another page of this machine", []string{"Content-Type", jsonType, "Origin", "http://localhost:1"}, 401},
		{"a page elsewhere", []string{"Content-Type", jsonType, "Origin", "https://evil.example.org"}, 403},
		{"a sandboxed page", []string{"Content-Type", jsonType, "Origin", "null"}, 403},
		{"a name that points here", []string{"Content-Type", jsonType, "Host", "evil.example.org:" + u.Port()}, 403},
		{"that name's page", []string{"Content-Type", jsonType, "Host", "evil.example.org", "Origin", "http://evil.example.org"}, 403},
	} {
		body := "x"
		if tt.header[1] == jsonType {
			body = `{"text":"x"}`
		}
		if status, answer := servertest.Call(t, "POST", base+"api/rooms/lobby/messages", body, tt.header...); status != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, status, answer, tt.status)
		}
	}
}

// A key may be in quotes. A quote at one end only belongs to the key. A request names one key.
func TestIdempotencyKeyMayBeQuoted(t *testing.T) {
	lobby := servertest.Serve(t) + "api/rooms/lobby/messages"
	for _, tt := range []struct {
		keys []string
		want string
	}{
		{[]string{`k`}, `"seq":1,`},
		{[]string{`"k"`}, `"duplicate":true`},
		{[]string{`k"`}, `"seq":2,`},
		{[]string{`"k`}, `"seq":3,`},
		{[]string{`k`, `l`}, "several headers"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", lobby, strings.NewReader("hi"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"text/plain"}, "Idempotency-Key": tt.keys}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(got), tt.want) {
			t.Errorf("%q: got %s, %v, want %s", tt.keys, got, err, tt.want)
		}
	}
}

func TestAPINeedsItsToken(t *testing.T) {
	base := servertest.Serve(t, "--listen", "0.0.0.0:0", "--api-token-file", servertest.File(t, "a-token-of-many-characters\n"))
	for token, want := range map[string]int{
		"":                                  401,
		"Bearer wrong":                      401,
		"Bearer a token of many character":  401,
		"Basic a-token-of-many-characters":  401,
		"Bearer a-token-of-many-characters": 200,
		"bearer a-token-of-many-characters": 200,
		"BEARER a-token-of-many-characters": 200,
	} {
		if status, answer := servertest.Call(t, "GET", base+"api/rooms", "", "Authorization", token, "Host", "chat.example.org"); status != want {
			t.Errorf("%q: got %d %s, want %d", token, status, answer, want)
		}
	}
}

func TestAPIIsOffOnPublicListeners(t *testing.T) {
	base := servertest.Serve(t, "--listen", "0.0.0.0:0")
	status, answer := servertest.Call(t, "GET", base+"api/rooms", "")
	if status != 403 || !strings.Contains(answer, "--api-token-file") {
		t.Errorf("got %d %s, want 403 and how to open it", status, answer)
	}
}

// The public port serves pages, rooms and the API, but nothing that is meant for operators.
func TestPublicPortServesNothingForOperators(t *testing.T) {
	base := servertest.Serve(t)
	for _, tt := range []struct {
		path, accept string
		status       int
		part         string
	}{
		{"", "text/html", 200, "<html"},
		{"room.js", "*/*", 200, "export"},
		{"room/lobby/", "text/html,*/*", 200, "<html"},
		{"room/lobby", "text/html", 200, "<html"},
		{"room/lobby/", "*/*", 426, "WebSocket"},
		{"room/lobby", "", 426, "WebSocket"},
		{"ws", "*/*", 426, "WebSocket"},
		{"room/a..b/", "text/html", 400, "room name"},
		{"metrics", "", 404, ""},
		{"healthz", "", 404, ""},
		{"readyz", "", 404, ""},
		{"debug/pprof/", "", 404, ""},
		{"varz", "", 404, ""},
	} {
		status, answer := servertest.Call(t, "GET", base+tt.path, "", "Accept", tt.accept)
		if status != tt.status || !strings.Contains(answer, tt.part) {
			t.Errorf("/%s as %q: got %d %.100q, want %d with %q", tt.path, tt.accept, status, answer, tt.status, tt.part)
		}
	}
	if conn := servertest.Join(t, base, "room/lobby"); conn == nil || conn.Subprotocol() != "" {
		t.Error("got no text session")
	}
	if conn := servertest.Join(t, base, "ws", "roomcast.v1"); conn.Subprotocol() != "roomcast.v1" {
		t.Errorf("got subprotocol %q", conn.Subprotocol())
	}
}

// A gateway that is stopping closes all sessions with 1001, refuses new sessions, and ends
// without an error.
func TestStopClosesAllSessions(t *testing.T) {
	base, stop := servertest.ServeUntil(t, "--drain-time", "300ms")
	var members []*websocket.Conn
	for range 20 {
		members = append(members, servertest.Join(t, base, "room/lobby/"))
	}
	servertest.Send(t, members[0], "last words")
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for i, m := range members {
		text, code := servertest.Next(t, m)
		for code == 0 && strings.HasSuffix(text, " last words") {
			text, code = servertest.Next(t, m)
		}
		if code != websocket.StatusGoingAway {
			t.Errorf("member %d: got %q, %d, want to be closed with 1001", i, text, code)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// A client that closes its half of the connection after the request is no defect of the server.
func TestHalfClosedConnectionIsNoDefect(t *testing.T) {
	base := servertest.Serve(t)
	nc, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(base, "http:"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprint(nc, "POST /api/rooms/half/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi")
	nc.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(nc)
	if answer := string(got); err != nil || !strings.Contains(answer, `{"ok":{"seq":1,`) && !strings.Contains(answer, `{"error":{"code":"unavailable",`) {
		t.Errorf("got %q, %v, want an ack or a refusal with retry_ms", got, err)
	}
}
