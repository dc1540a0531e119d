package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// nginx buffers answers unless a header of the answer forbids that. Plain proxy_pass speaks HTTP/1.0
// to the gateway.
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
			for i := range 3 { // the second and third time over connections that were kept open
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
					id = next(lines, "id: ") // before the next message
					next(lines, "event: message")
				}
			}
		})
	}
}
