package server_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
)

const hmacSecret = "0123456789abcdef0123456789abcdef"

// signed returns a token for ann, with the given additional claims.
func signed(t *testing.T, more jwt.MapClaims) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "ann", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(claims, more)
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(hmacSecret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stream is a reader of events. It works like a page that reads events with fetch.
type stream struct {
	t *testing.T
	*http.Response
	lines *bufio.Scanner
	seen  []event // events that want has skipped
}

type event struct{ name, data string }

// open sends a request for events. It limits the time of the whole stream.
func open(t *testing.T, url string, header ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close(); cancel() })
	return &stream{t: t, Response: resp, lines: bufio.NewScanner(resp.Body)}
}

// want returns the data of the next event with the given name. It keeps events with other names,
// because the events of several rooms may come in any order.
func (s *stream) want(name string) string {
	s.t.Helper()
	for i, e := range s.seen {
		if e.name == name {
			s.seen = slices.Delete(s.seen, i, i+1)
			return e.data
		}
	}
	last := ""
	for s.lines.Scan() {
		if event, found := strings.CutPrefix(s.lines.Text(), "event: "); found {
			last = event
		}
		data, found := strings.CutPrefix(s.lines.Text(), "data: ")
		if found && last == name {
			return data
		}
		if found {
			s.seen = append(s.seen, event{last, data})
		}
	}
	s.t.Fatalf("the stream ended before the event %s: %v; it had %v", name, s.lines.Err(), s.seen)
	return ""
}

// patient sends a request again if the gateway answers that it cannot reach the room, as may
// happen on a busy machine. The request has a key, so its message is stored only once.
func patient(t *testing.T, method, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	if method == "POST" && strings.Contains(url, "/api/rooms/") && !strings.Contains(url, "/signal") && !strings.Contains(body, `"key"`) {
		header = append(slices.Clone(header), "Idempotency-Key", rand.Text())
	}
	for end := time.Now().Add(time.Minute); ; {
		status, answer = servertest.Call(t, method, url, body, header...)
		if status != http.StatusServiceUnavailable || time.Now().After(end) {
			return status, answer
		}
	}
}

// resume returns the resume string in the hello.
func (s *stream) resume() string {
	s.t.Helper()
	var hello struct{ Hello struct{ Resume string } }
	if err := json.Unmarshal([]byte(s.want("hello")), &hello); err != nil || hello.Hello.Resume == "" {
		s.t.Fatalf("got %v, %v, want a resume", hello, err)
	}
	return hello.Hello.Resume
}

// The gateway has default settings, and does not know that there is a proxy. Through the proxy,
// a guest reads two rooms, sends messages and signals, and requests members and history.
func TestGuestUsesPlainHTTPThroughAProxy(t *testing.T) {
	target, err := url.Parse(servertest.Serve(t))
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
		r.Out.Host = "chat.example.org"
	}})
	t.Cleanup(front.Close)
	reader := open(t, front.URL+"/events?room=lobby&room=ops&name=Ann")
	resume := reader.resume()
	for range 2 {
		reader.want("ok")
	}
	rooms := front.URL + "/api/rooms"
	me := []string{"Roomcast-Resume", resume, "Content-Type", "application/json"}
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		part                     string
	}{
		{"say", "POST", "/lobby/messages", `{"text":"hi","key":"k1"}`, me, 200, `"seq":1`},
		{"the same again", "POST", "/lobby/messages", `{"text":"hi","key":"k1"}`, me, 200, `"duplicate":true`},
		{"signal", "POST", "/ops/signal", `{"type":"typing","data":{"n":1}}`, me, 200, `{"ok":{}}`},
		{"a signal without a type", "POST", "/ops/signal", `{"data":1}`, me, 400, "the type is missing or empty"},
		{"edit", "POST", "/lobby/edit", `{"seq":1,"text":"hello"}`, me, 200, `"seq":2`},
		{"members", "GET", "/lobby/members", "", me, 200, `"name":"Ann"`},
		{"history", "GET", "/lobby/messages?last=2", "", me, 200, `"text":"hello"`},
		{"history of a nameless guest", "GET", "/lobby/messages?last=2", "", nil, 200, `"text":"hello"`},
		{"close", "POST", "/lobby/close", "", me, 403, "the right moderate"},
		{"say as another", "POST", "/lobby/messages?from=ben", `{"text":"x"}`, me, 403, "leave out from"},
		{"say as nobody", "POST", "/lobby/messages", `{"text":"x"}`, me[2:], 401, "a credential is needed"},
		{"signal as nobody", "POST", "/lobby/signal", `{"type":"x"}`, me[2:], 401, "a credential is needed"},
		{"a forged string", "POST", "/lobby/messages", `{"text":"x"}`, []string{"Roomcast-Resume", "x" + resume, "Content-Type", "application/json"}, 401, "resume string"},
		{"a token where none is accepted", "POST", "/lobby/messages", `{"text":"x"}`, append(me[:4:4], "Authorization", "Bearer a.b.c"), 401, "accepts no tokens"},
		{"the list of rooms", "GET", "", "", me, 403, "guests cannot"},
		{"a ticket", "POST", "/../tickets", `{"id":"ann","rooms":{"*":"read"}}`, me, 403, "guests cannot"},
	} {
		status, got := patient(t, tt.method, rooms+tt.path, tt.body, tt.header...)
		if status != tt.status || !strings.Contains(got, tt.part) {
			t.Errorf("%s: got %d %s, want %d with %s", tt.name, status, got, tt.status, tt.part)
		}
	}
	message := reader.want("message")
	if !strings.Contains(message, `"name":"Ann"},"key":"k1","text":"hi"`) {
		t.Errorf("got %s, want the message of Ann", message)
	}
	if signal := reader.want("signal"); !strings.Contains(signal, `"type":"typing"`) || !strings.Contains(signal, `"data":{"n":1}`) {
		t.Errorf("got %s, want the signal", signal)
	}
	if edit := reader.want("edited"); !strings.Contains(edit, `"of":1`) {
		t.Errorf("got %s, want the edit", edit)
	}
}

// Bans, mutes, the slow mode and a close apply to HTTP requests in the same way as to sessions.
func TestActsApplyToRequests(t *testing.T) {
	base := servertest.Serve(t)
	rooms := base + "api/rooms/lobby"
	reader := open(t, base+"room/lobby/events?name=Ann")
	hello := reader.want("hello")
	var h struct {
		Hello struct {
			Resume string
			You    struct{ ID string }
		}
	}
	if err := json.Unmarshal([]byte(hello), &h); err != nil {
		t.Fatal(err)
	}
	me := []string{"Roomcast-Resume", h.Hello.Resume, "Content-Type", "application/json"}
	act := func(act, body string) {
		t.Helper()
		if status, got := patient(t, "POST", rooms+"/"+act, body, "Content-Type", "application/json"); status != 200 {
			t.Fatalf("%s: got %d %s", act, status, got)
		}
	}
	check := func(when, method, path, body string, status int, part string) {
		t.Helper()
		if got, answer := patient(t, method, rooms+path, body, me...); got != status || !strings.Contains(answer, part) {
			t.Errorf("%s, %s: got %d %s, want %d with %s", when, path, got, answer, status, part)
		}
	}
	member := `{"member":"` + h.Hello.You.ID + `"}`
	act("slow", `{"every":"1h"}`)
	check("slow", "POST", "/signal", `{"type":"x"}`, 200, "ok")
	check("slow", "POST", "/signal", `{"type":"x"}`, 429, "this room is slow")
	act("slow", `{"every":"0"}`)
	act("mute", member)
	check("muted", "POST", "/messages", `{"text":"x"}`, 403, "muted")
	check("muted", "POST", "/signal", `{"type":"x"}`, 403, "muted")
	check("muted", "GET", "/messages", "", 200, "events")
	act("unmute", member)
	act("ban", member)
	check("banned", "POST", "/messages", `{"text":"x"}`, 403, "banned")
	check("banned", "POST", "/signal", `{"type":"x"}`, 403, "banned")
	check("banned", "GET", "/messages", "", 403, "banned")
	check("banned", "GET", "/messages?since=9999&wait=20s", "", 403, "banned")
	check("banned", "GET", "/members", "", 403, "banned")
	if end := reader.want("close"); !strings.HasPrefix(end, `{"code":4102,`) {
		t.Errorf("got %s, want the end of the stream by the ban", end)
	}
	act("unban", member)
	act("close", "")
	check("closed", "POST", "/messages", `{"text":"x"}`, 409, "room_closed")
	check("closed", "POST", "/signal", `{"type":"x"}`, 409, "room_closed")
}

// The gateway limits the requests of a user by the user's id, and the requests of guests by
// their address.
func TestRequestsAreLimitedBySender(t *testing.T) {
	base := servertest.Serve(t, "--rate", "0.001", "--burst", "3", "--trust-proxy", "127.0.0.1", "--auth-key-file", servertest.File(t, hmacSecret),
		"--guest-rights", "read say", "--api-token-file", servertest.File(t, "0123456789abcdef"))
	// spend sends requests until one is refused. It returns how many were accepted.
	spend := func(header ...string) (n int) {
		for n < 10 {
			if status, _ := servertest.Call(t, "GET", base+"api/rooms/lobby/messages", "", header...); status == http.StatusTooManyRequests {
				break
			}
			n++
		}
		return n
	}
	ann, ben := signed(t, nil), signed(t, jwt.MapClaims{"sub": "ben"})
	for _, tt := range []struct {
		name   string
		header []string
		want   int
	}{
		{"ann", []string{"Authorization", "Bearer " + ann}, 3},
		{"ann from elsewhere", []string{"Authorization", "Bearer " + ann, "X-Forwarded-For", "203.0.113.1"}, 0},
		{"ben", []string{"Authorization", "Bearer " + ben}, 3},
		{"guests", []string{"X-Forwarded-For", "203.0.113.9"}, 3},
		{"guests of another address", []string{"X-Forwarded-For", "2001:db8::1"}, 3},
		{"guests of its /64", []string{"X-Forwarded-For", "2001:db8::2"}, 0},
		{"a program", []string{"Authorization", "Bearer 0123456789abcdef"}, 10},
	} {
		if got := spend(tt.header...); got != tt.want {
			t.Errorf("%s: got %d requests, want %d", tt.name, got, tt.want)
		}
	}
	resume := open(t, base+"room/lobby/events", "X-Forwarded-For", "203.0.113.77").resume()
	if got := spend("X-Forwarded-For", "203.0.113.77", "Roomcast-Resume", resume); got != 3 {
		t.Errorf("a guest with a resume: got %d requests, want 3", got)
	}
	if got := spend("X-Forwarded-For", "203.0.113.77"); got != 0 {
		t.Errorf("a guest of the same address: got %d requests, want 0", got)
	}
}

// With a user's token, a page of an allowed origin can use all rights of the user. A page of
// another origin and a request that hides its origin are refused.
func TestPagesOfOtherOrigins(t *testing.T) {
	const page = "https://app.example.org"
	base := servertest.Serve(t, "--allow-origin", page, "--auth-key-file", servertest.File(t, hmacSecret), "--api-token-file", servertest.File(t, "0123456789abcdef"))
	token := "Bearer " + signed(t, nil)
	lobby := base + "api/rooms/lobby/"
	patient(t, "POST", lobby+"messages", "the room is reached", "Authorization", token, "Content-Type", "text/plain")
	for _, tt := range []struct {
		name, method, url, body string
		header                  []string
		status                  int
		origin                  string
	}{
		{"preflight", "OPTIONS", lobby + "messages", "", []string{"Origin", page, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type"}, 204, page},
		{"preflight of events", "OPTIONS", base + "events?room=lobby", "", []string{"Origin", page, "Access-Control-Request-Method", "GET"}, 204, page},
		{"preflight of one room", "OPTIONS", base + "room/lobby/events", "", []string{"Origin", page, "Access-Control-Request-Method", "GET"}, 204, page},
		{"foreign preflight", "OPTIONS", lobby + "messages", "", []string{"Origin", "https://evil.example.org"}, 403, ""},
		{"say", "POST", lobby + "messages", `{"text":"x"}`, []string{"Origin", page, "Authorization", token}, 200, page},
		{"read", "GET", lobby + "messages", "", []string{"Origin", page, "Authorization", token}, 200, page},
		{"expired", "GET", lobby + "messages", "", []string{"Origin", page, "Authorization", "Bearer " + signed(t, jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()})}, 401, page},
		{"no token", "GET", lobby + "messages", "", []string{"Origin", page}, 401, page},
		{"no right", "POST", lobby + "close", "", []string{"Origin", page, "Authorization", token}, 403, page},
		{"nothing there", "GET", base + "api/nothing", "", []string{"Origin", page, "Authorization", token}, 404, page},
		{"an API token", "GET", lobby + "messages", "", []string{"Origin", page, "Authorization", "Bearer 0123456789abcdef"}, 403, page},
		{"a foreign page", "GET", lobby + "messages", "", []string{"Origin", "https://evil.example.org", "Authorization", token}, 403, ""},
		{"a foreign page without a token", "GET", base + "api/nothing", "", []string{"Origin", "https://evil.example.org"}, 403, ""},
		{"an image of a foreign page", "GET", lobby + "messages", "", []string{"Sec-Fetch-Site", "cross-site", "Authorization", token}, 403, ""},
		{"a link", "GET", lobby + "messages", "", []string{"Sec-Fetch-Site", "same-site", "Authorization", token}, 200, ""},
		{"a program", "GET", lobby + "messages", "", []string{"Authorization", token}, 200, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, tt.url, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(tt.header); i += 2 {
			req.Header.Set(tt.header[i], tt.header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != tt.status || got != tt.origin {
			t.Errorf("%s: got %d, origin %q, %s, want %d, %q", tt.name, resp.StatusCode, got, body, tt.status, tt.origin)
		}
		if !slices.Contains(resp.Header.Values("Vary"), "Origin") || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: got the headers %v, want Vary: Origin and no credentials", tt.name, resp.Header)
		}
		if allowed := strings.ToLower(resp.Header.Get("Access-Control-Allow-Headers")); tt.status == 204 && (!strings.Contains(allowed, "authorization") || !strings.Contains(allowed, "roomcast-resume")) {
			t.Errorf("%s: a page may send only %s", tt.name, allowed)
		}
	}
}

// A browser adds a cookie to the requests of every page. With the cookie, the gateway's own page
// and allowed pages may open a stream. But the cookie never authenticates a request of the API.
func TestACookieOpensStreamsAndNoAPI(t *testing.T) {
	const page = "https://app.example.org"
	base := servertest.Serve(t, "--auth-cookie", "login", "--auth-key-file", servertest.File(t, hmacSecret), "--allow-origin", page, "--rate", "0")
	cookie := []string{"Cookie", "login=" + signed(t, nil)}
	own := open(t, base+"events?room=lobby", append(cookie, "Sec-Fetch-Site", "same-origin")...)
	resume := own.resume()
	for _, tt := range []struct {
		name        string
		header      []string
		stream, api int
	}{
		{"the gateway's own page", []string{"Origin", strings.TrimSuffix(base, "/"), "Sec-Fetch-Site", "same-origin"}, 200, 401},
		{"the same without Origin", []string{"Sec-Fetch-Site", "same-origin"}, 200, 401},
		{"an allowed page", []string{"Origin", page, "Sec-Fetch-Site", "cross-site"}, 200, 401},
		{"a foreign page", []string{"Origin", "https://evil.example.org", "Sec-Fetch-Site", "cross-site"}, 403, 403},
		{"a foreign page that hides its origin", []string{"Sec-Fetch-Site", "cross-site"}, 403, 403},
		{"a frame without an origin", []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403, 403},
		{"another page of this machine", []string{"Origin", "http://localhost:1", "Sec-Fetch-Site", "same-site"}, 401, 401},
		{"another host of the site", []string{"Sec-Fetch-Site", "same-site"}, 401, 401},
		{"no page", nil, 401, 401},
	} {
		header := append(slices.Clone(cookie), tt.header...)
		if got := open(t, base+"events?room=lobby", header...); got.StatusCode != tt.stream {
			t.Errorf("%s: the stream got %s, want %d", tt.name, got.Status, tt.stream)
		}
		for path, body := range map[string]string{"messages": `{"text":"x"}`, "signal": `{"type":"x"}`, "close": "{}", "edit": `{"seq":1,"text":"x"}`} {
			for _, more := range [][]string{nil, {"Roomcast-Resume", resume}} {
				status, got := servertest.Call(t, "POST", base+"api/rooms/lobby/"+path, body, append(slices.Clone(header), append(more, "Content-Type", "application/json")...)...)
				if status != tt.api {
					t.Errorf("%s: POST %s with %q got %d %s, want %d", tt.name, path, more, status, got, tt.api)
				}
			}
		}
		if status, got := servertest.Call(t, "GET", base+"api/rooms/lobby/messages", "", header...); status != tt.api {
			t.Errorf("%s: GET got %d %s, want %d", tt.name, status, got, tt.api)
		}
	}
}

// A ticket opens one stream. To open the next stream and to send messages, the client uses the
// resume string that the stream contains, not the ticket.
func TestTicketOpensOneStream(t *testing.T) {
	base := servertest.Serve(t, "--api-token-file", servertest.File(t, "0123456789abcdef"), "--guest-rights", "none=")
	status, got := servertest.Call(t, "POST", base+"api/tickets", `{"id":"ann","rooms":{"lobby":"read say"}}`, "Authorization", "Bearer 0123456789abcdef")
	var made struct{ OK struct{ Ticket string } }
	if err := json.Unmarshal([]byte(got), &made); status != 200 || err != nil {
		t.Fatalf("got %d %s, %v, want a ticket", status, got, err)
	}
	path := base + "events?room=lobby&room=secret&ticket=" + made.OK.Ticket
	first := open(t, path)
	resume := first.resume()
	if end := first.want("ended"); !strings.Contains(end, `"room":"secret","ended":{"code":4106`) {
		t.Errorf("got %s, want ann's read of the other room refused", end)
	}
	second := open(t, path)
	body, _ := io.ReadAll(second.Body)
	if second.StatusCode != 401 || !strings.Contains(string(body), `"code":4003`) {
		t.Errorf("the ticket again: got %s %s, want 401 with 4003", second.Status, body)
	}
	open(t, base+"events?room=lobby", "Roomcast-Resume", resume).want("hello")
	for path, want := range map[string]int{"lobby": 200, "secret": 403} {
		status, got := patient(t, "POST", base+"api/rooms/"+path+"/messages", "hi", "Roomcast-Resume", resume, "Content-Type", "text/plain")
		if status != want {
			t.Errorf("say in %s: got %d %s, want %d", path, status, got, want)
		}
	}
	if message := first.want("message"); !strings.Contains(message, `"from":{"id":"ann"}`) {
		t.Errorf("got %s, want the message of ann", message)
	}
}

// When a request reads a room, the gateway asks the backend, unless the resume string already
// contains the backend's answer.
func TestRequestsAskWhetherTheyMayJoin(t *testing.T) {
	asked := make(chan string, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		question, _ := io.ReadAll(r.Body)
		var q struct{ Ask, Room string }
		json.Unmarshal(question, &q)
		asked <- q.Ask + " " + q.Room
		if q.Room == "secret" {
			io.WriteString(w, `{"allow":false,"why":"members only"}`)
			return
		}
		fmt.Fprintf(w, `{"allow":true,"until":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
	}))
	t.Cleanup(app.Close)
	base := servertest.Serve(t, "--ask", "join,say", "--ask-url", app.URL)
	questions := func() (list []string) {
		for len(asked) > 0 {
			list = append(list, <-asked)
		}
		return list
	}
	reader := open(t, base+"events?room=ops&room=secret")
	fresh := reader.resume()
	if end := reader.want("ended"); !strings.Contains(end, "members only") {
		t.Errorf("got %s, want the reason of the backend", end)
	}
	var ok struct{ OK struct{ Resume string } }
	other := open(t, base+"events?room=lobby", "Roomcast-Resume", fresh)
	if err := json.Unmarshal([]byte(other.want("ok")), &ok); err != nil || ok.OK.Resume == "" {
		t.Fatalf("got %v, %v, want a resume with the allowed join", ok, err)
	}
	questions()
	for _, tt := range []struct {
		name, method, path, resume string
		status                     int
		asked                      []string
	}{
		{"history", "GET", "lobby/messages", fresh, 200, []string{"join lobby"}},
		{"members", "GET", "lobby/members", fresh, 200, []string{"join lobby"}},
		{"history of another room", "GET", "secret/messages", fresh, 403, []string{"join secret"}},
		{"history after an allowed join", "GET", "lobby/messages", ok.OK.Resume, 200, nil},
		{"say", "POST", "lobby/messages", fresh, 200, []string{"say lobby"}},
		{"signal", "POST", "lobby/signal", ok.OK.Resume, 200, []string{"say lobby"}},
	} {
		body := `{"text":"x"}`
		if tt.name == "signal" {
			body = `{"type":"x"}`
		}
		status, got := patient(t, tt.method, base+"api/rooms/"+tt.path, body, "Roomcast-Resume", tt.resume, "Content-Type", "application/json")
		if list := slices.Compact(questions()); status != tt.status || !slices.Equal(list, tt.asked) {
			t.Errorf("%s: got %d %s and the questions %q, want %d and %q", tt.name, status, got, list, tt.status, tt.asked)
		}
	}
}

// A resume string that is not accepted counts as a refused credential of the address.
func TestForgedResumeStringsCountAsRefusedCredentials(t *testing.T) {
	base := servertest.Serve(t, "--listen", "0.0.0.0:0")
	messages := base + "api/rooms/lobby/messages?last=1"
	for range 25 { // all clients of a proxy have its address, so nothing is counted for them
		if status, got := patient(t, "GET", messages, "", "Roomcast-Resume", "forged", "X-Forwarded-For", "203.0.113.9"); status != 401 {
			t.Fatalf("through a proxy: got %d %s, want 401", status, got)
		}
	}
	natstest.Eventually(t, "the address to be refused", func() bool {
		status, got := patient(t, "GET", messages, "", "Roomcast-Resume", "forged")
		return status == 429 && strings.Contains(got, "were refused")
	})
}
