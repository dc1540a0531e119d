package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// nginx buffers an answer unless a header of the answer forbids it. The second case has nginx's
// plain proxy_pass, which uses HTTP/1.0 to the gateway.
func TestEventsPassThroughNginxAtOnce(t *testing.T) {
	for name, location := range map[string]string{
		"as for WebSockets": "location / { proxy_pass http://gateway;",
		"plain proxy_pass":  "location / { proxy_pass http://GATEWAY; } location /unused {",
	} {
		t.Run(name, func(t *testing.T) {
			gateway := gatewayFor(t)
			front := proxy{program: "nginx", args: nginxArgs, conf: nginxConf("server GATEWAY; keepalive 4;", location)}.front(t, gateway)
			w := walk{one: front, two: front}
			if err := w.up(t.Context(), 30*time.Second); err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), "GET", front+"room/lobby/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			next := func(lines *bufio.Scanner, prefix string) string {
				for lines.Scan() {
					if line, found := strings.CutPrefix(lines.Text(), prefix); found {
						return line
					}
				}
				t.Fatalf("the stream ended before a line with %q: %v", prefix, lines.Err())
				return ""
			}
			member, err := connect(t.Context(), gateway, "lobby", "")
			if err != nil {
				t.Fatal(err)
			}
			defer member.leave()
			id := ""
			for i := range 3 { // the second and third request use connections that nginx has kept open
				if id != "" {
					req.Header.Set("Last-Event-ID", id)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				lines := bufio.NewScanner(resp.Body)
				next(lines, "event: hello")
				for range 5 {
					if err := member.say(t.Context(), fmt.Sprint(i)); err != nil {
						t.Fatal(err)
					}
					id = next(lines, "id: ") // read the id before the next message is sent
					next(lines, "event: message")
				}
			}

			// A guest without a WebSocket reads several rooms as a stream, sends a message, and
			// waits for messages with a long poll.
			resp, err := http.Get(front + "events?room=lobby&room=ops&last=1")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines := bufio.NewScanner(resp.Body)
			next(lines, "event: hello")
			var hello struct{ Hello struct{ Resume string } }
			if err := json.Unmarshal([]byte(next(lines, "data: ")), &hello); err != nil {
				t.Fatal(err)
			}
			next(lines, "event: message")
			var last struct{ Seq int }
			if err := json.Unmarshal([]byte(next(lines, "data: ")), &last); err != nil || last.Seq != 15 {
				t.Fatalf("got %+v, %v, want the last message", last, err)
			}
			poll := func(wait string) string {
				resp, err := http.Get(front + "api/rooms/lobby/messages?since=15&wait=" + wait)
				if err != nil {
					return err.Error()
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				return fmt.Sprint(string(body), err)
			}
			if got := poll("1s"); !strings.Contains(got, `"events":[],"more":false,"seq":15,`) {
				t.Errorf("a poll without a message got %s", got)
			}
			polled := make(chan string, 1)
			go func() { polled <- poll("50s") }()
			post, err := http.NewRequestWithContext(t.Context(), "POST", front+"api/rooms/lobby/messages", strings.NewReader(`{"text":"by HTTP"}`))
			if err != nil {
				t.Fatal(err)
			}
			post.Header.Set("Content-Type", "application/json")
			post.Header.Set("Roomcast-Resume", hello.Hello.Resume)
			said, err := http.DefaultClient.Do(post)
			if err != nil {
				t.Fatal(err)
			}
			defer said.Body.Close()
			if body, _ := io.ReadAll(said.Body); said.StatusCode != http.StatusOK {
				t.Fatalf("say: got %s %s", said.Status, body)
			}
			next(lines, "event: message")
			if got := <-polled; !strings.Contains(got, `"seq":16,`) || !strings.Contains(got, `"text":"by HTTP"`) {
				t.Errorf("the poll got %s, want the message", got)
			}
		})
	}
}
