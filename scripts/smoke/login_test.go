//go:build linux

package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// The example reads the cookie of a browser. It decides whether the browser may connect, and with
// which id and rights.
func TestExampleLogin(t *testing.T) {
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("a password of this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", dir, "../examples/login").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	gateway := start(t, nil, "gateway", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--nats-monitor", "off", "--data-dir", t.TempDir(),
		"--nats-listen", "127.0.0.1:0", "--nats-listen-password-file", password, "--ask", "connect", "--ask-header", "Cookie")
	base := strings.TrimSuffix(gateway.serves(), "/")
	gateway.says("nats://")
	server := regexp.MustCompile(`nats://\S+`).FindString(gateway.said())
	launch(t, nil, filepath.Join(dir, "login"), "-nats", server, "-password-file", password).says("login answers")
	for _, tt := range []struct{ cookie, origin, room, frame string }{
		{"session=a1", base, "lobby", `"you":{"id":"ann"}`},
		{"session=a1", base, "user:ann", `"you":{"id":"ann"}`},
		{"session=b2; other=1", base, "lobby", `"you":{"id":"ben"}`},
		{"session=b2", base, "user:ann", "4106"},
		{"session=c3", base, "lobby", "log in first"},
		{"", base, "lobby", "log in first"},
		{"session=a1", "http://localhost:1", "lobby", "log in first"}, // a page of another origin
	} {
		header := http.Header{"Origin": {tt.origin}}
		if tt.cookie != "" {
			header.Set("Cookie", tt.cookie)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		c, _, err := websocket.Dial(ctx, strings.Replace(base, "http", "ws", 1)+"/room/"+tt.room+"/", &websocket.DialOptions{Subprotocols: []string{"roomcast.v1"}, HTTPHeader: header})
		if err != nil {
			t.Fatal(err)
		}
		_, frame, err := c.Read(ctx)
		got := string(frame)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.frame) {
			t.Errorf("%s in %s: got %s, want %s", tt.cookie, tt.room, got, tt.frame)
		}
		c.CloseNow()
		cancel()
	}
}
