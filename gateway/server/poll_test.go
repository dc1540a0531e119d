package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
)

// polled is the answer to a poll.
type polled struct {
	status int
	body   string
	header http.Header
}

// poll sends a request in the background. In the answer, status 0 stands for an error.
func poll(t *testing.T, url string, header ...string) <-chan polled {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.Close = true
	got := make(chan polled, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			got <- polled{body: err.Error()}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			got <- polled{body: err.Error()}
			return
		}
		got <- polled{resp.StatusCode, string(body), resp.Header}
	}()
	return got
}

// sessions waits until the gateway has the wanted number of sessions. Polls count as sessions.
func sessions(t *testing.T, base string, want int) {
	t.Helper()
	natstest.Eventually(t, fmt.Sprintf("%d members and polls", want), func() bool {
		return servertest.Sessions(t, base) == want
	})
}

func say(t *testing.T, base, room, text string) {
	t.Helper()
	if status, got := patient(t, "POST", base+"api/rooms/"+room+"/messages", text, "Content-Type", "text/plain"); status != 200 {
		t.Errorf("say in %s: got %d %s", room, status, got)
	}
}

// A client that polls repeatedly receives every message once and in order.
func TestPollsReceiveEveryMessageOnce(t *testing.T) {
	for _, backend := range []string{"--portable=false", "--portable"} {
		base := servertest.Serve(t, backend)
		const n = 20
		var said = make(chan struct{})
		go func() {
			defer close(said)
			for i := range n {
				say(t, base, "lobby", fmt.Sprint("text-", i+1))
			}
		}()
		seq, epoch, at := uint64(0), "", ""
		for seq < n {
			got := <-poll(t, fmt.Sprintf("%sapi/rooms/lobby/messages?since=%d&epoch=%s&at=%s&wait=20s", base, seq, epoch, at))
			var page struct {
				Epoch  string
				Gap    any
				Events []struct {
					Seq  uint64
					At   string
					Text string
				}
			}
			if err := json.Unmarshal([]byte(got.body), &page); got.status != 200 || err != nil || page.Gap != nil {
				t.Fatalf("got %+v, %v, want a page without a gap", got, err)
			}
			for _, e := range page.Events {
				if seq++; e.Seq != seq || e.Text != fmt.Sprint("text-", seq) {
					t.Fatalf("got %+v, want seq %d", e, seq)
				}
				at = e.At
			}
			if epoch = page.Epoch; t.Failed() {
				break // a message could not be stored
			}
		}
		<-said
	}
}

// A poll ends with the first message, or when its time is over. Whatever ends a session also ends
// a poll.
func TestPollsEndForEveryReasonThatEndsASession(t *testing.T) {
	const page = "https://app.example.org"
	base, stop := servertest.ServeUntil(t, "--allow-origin", page, "--auth-key-file", servertest.File(t, hmacSecret), "--guest-rights", "read say",
		"--api-token-file", servertest.File(t, "0123456789abcdef"))
	defer stop()
	lobby := base + "api/rooms/lobby/messages?since=0&wait="
	admin := []string{"Authorization", "Bearer 0123456789abcdef", "Content-Type", "application/json"}
	call := func(path, body string) {
		t.Helper()
		if status, got := patient(t, "POST", base+"api/"+path, body, admin...); status != 200 {
			t.Fatalf("%s: got %d %s", path, status, got)
		}
	}
	want := func(name string, got <-chan polled, status int, part string) polled {
		t.Helper()
		select {
		case p := <-got:
			if p.status != status || !strings.Contains(p.body, part) {
				t.Errorf("%s: got %+v, want %d with %s", name, p, status, part)
			}
			return p
		case <-time.After(60 * time.Second):
			t.Fatalf("%s: no answer", name)
			return polled{}
		}
	}
	token := func(more jwt.MapClaims) string { return "Bearer " + signed(t, more) }

	if p := want("the end of its time", poll(t, lobby+"1ms", "Origin", page, "Authorization", token(nil)), 200, `"events":[],"more":false,"seq":0,`); p.header.Get("Access-Control-Allow-Origin") != page || p.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got the headers %v", p.header)
	}
	want("the end of its token", poll(t, lobby+"50s", "Authorization", token(jwt.MapClaims{"exp": time.Now().Add(-4 * time.Second).Unix()})), 401, "expired")

	reader := open(t, base+"room/quiet/events")
	resume := reader.resume()
	sessions(t, base, 1)
	guest := poll(t, lobby+"50s", "Roomcast-Resume", resume)
	ann := poll(t, lobby+"50s", "Authorization", token(nil))
	ben := poll(t, lobby+"50s", "Authorization", token(jwt.MapClaims{"sub": "ben", "iat": time.Now().Add(-time.Minute).Unix()}))
	program := poll(t, lobby+"50s", admin[:2]...)
	sessions(t, base, 5)
	call("rooms/lobby/ban", `{"member":"ann"}`)
	want("banned", ann, 403, "banned")
	want("a guest", guest, 200, `"kind":"banned"`)
	want("ben", ben, 200, `"kind":"banned"`)
	want("a program", program, 200, `"kind":"banned"`)

	later := base + "api/rooms/lobby/messages?since=1&wait=50s"
	ben = poll(t, later, "Authorization", token(jwt.MapClaims{"sub": "ben", "iat": time.Now().Add(-time.Minute).Unix()}))
	guest = poll(t, later, "Roomcast-Resume", resume)
	sessions(t, base, 3)
	call("revoke", `{"id":"ben"}`)
	want("revoked", ben, 401, "revoked")
	call("rooms/lobby/messages", `{"text":"hi"}`)
	want("a message", guest, 200, `"text":"hi"`)

	gone := open(t, base+"room/other/events")
	gone.want("hello")
	gone.Body.Close()
	sessions(t, base, 1)
	guest = poll(t, base+"api/rooms/lobby/messages?since=2&wait=50s", "Roomcast-Resume", resume)
	sessions(t, base, 2)
	go stop()
	want("a stopping gateway", guest, 503, "stopping")
}

func TestBadPollsAreRefused(t *testing.T) {
	base := servertest.Serve(t)
	for query, want := range map[string]int{
		"wait=20s": 400, "last=1&wait=20s": 400, "since=0&wait=20": 400, "since=0&wait=-1s": 400, "since=0&wait=x": 400,
		"since=0&wait=0s": 200, "since=5&wait=20s": 200, // the answers contain a gap
		"since=0&wait=": 200, "before=&limit=&last=": 200, // empty parameters count as absent
	} {
		if status, got := servertest.Call(t, "GET", base+"api/rooms/lobby/messages?"+query, ""); status != want {
			t.Errorf("%s: got %d %s, want %d", query, status, got, want)
		}
	}
}

// The answer to a HEAD has no body. Otherwise a proxy could take the body for the next answer.
func TestHeadOfAPollHasNoBody(t *testing.T) {
	base := servertest.Serve(t)
	nc, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(base, "http:"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "HEAD /api/rooms/lobby/messages?since=0&wait=1s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	got, err := io.ReadAll(nc)
	if _, body, _ := strings.Cut(string(got), "\r\n\r\n"); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 OK") || body != "" {
		t.Errorf("got %q, %v, want an answer without a body", got, err)
	}
}

func TestPollsCostNoGoroutine(t *testing.T) {
	base := servertest.Serve(t)
	const n = 50
	before := runtime.NumGoroutine()
	clients := make([]<-chan polled, n)
	for i := range clients {
		clients[i] = poll(t, base+"api/rooms/lobby/messages?since=0&wait=50s")
	}
	sessions(t, base, n)
	// Each client of this test has three goroutines: one of its own, and two for its connection.
	if more := runtime.NumGoroutine() - before - 3*n; more > n/5 {
		t.Errorf("%d polls cost %d goroutines", n, more)
	}
	say(t, base, "lobby", "now")
	for _, c := range clients {
		if got := <-c; !strings.Contains(got.body, `"text":"now"`) {
			t.Fatalf("got %+v, want the message", got)
		}
	}
	sessions(t, base, 0)
}
