package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/spf13/pflag"

	"roomcast/gateway/server"
)

// serve runs a standalone gateway in this process until the test ends, with its data in
// a directory of its own, and returns the address of its banner.
func serve(t *testing.T, args ...string) string {
	t.Helper()
	base, stop := serveUntil(t, args...)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	return base
}

// serveUntil is serve for tests that stop the gateway themselves. Stop returns how it
// ended and may be called again.
func serveUntil(t *testing.T, args ...string) (base string, stop func() error) {
	t.Helper()
	return serveLogging(t, os.Stderr, args...)
}

// serveLogging is serveUntil with the log going to a writer.
func serveLogging(t *testing.T, log io.Writer, args ...string) (base string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	cmd := command()
	cmd.SetArgs(append([]string{"--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--sync", "1s", "--nats-monitor", "off",
		"--ops-listen", "off", "--drain-time", "50ms", "--log-level", "error"}, args...))
	cmd.SetOut(w)
	cmd.SetErr(log)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	done := make(chan struct{})
	var ended error
	go func() {
		defer close(done)
		ended = cmd.ExecuteContext(ctx)
		w.CloseWithError(io.EOF)
	}()
	stop = func() error {
		cancel()
		<-done
		return ended
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if word, address, ok := strings.Cut(strings.TrimSpace(lines.Text()), " "); ok && word == "open" {
			base = strings.TrimSpace(address)
			break
		}
	}
	go io.Copy(io.Discard, r)
	if base == "" {
		t.Fatalf("the gateway does not serve: %v", stop())
	}
	return base, stop
}

// write makes a file with the text and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// call makes one HTTP request. Header holds names and values in turn.
func call(t *testing.T, method, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// join opens a text session at a path such as room/lobby/?last=1.
func join(t *testing.T, base, path string, protocols ...string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(base, "http", "ws", 1)+path, &websocket.DialOptions{Subprotocols: protocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func send(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// next returns the next frame or the close code.
func next(t *testing.T, conn *websocket.Conn) (string, websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, p, err := conn.Read(ctx)
	if err != nil {
		code := websocket.CloseStatus(err)
		if code < 0 {
			t.Fatalf("read: %v", err)
		}
		return "", code
	}
	return string(p), 0
}

// hear checks that the next frame ends in the text.
func hear(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	if got, code := next(t, conn); !strings.HasSuffix(got, text) {
		t.Fatalf("got %q, close code %d, want %q", got, code, text)
	}
}

// Only explicit flags change the limits of an existing log. If an operator forgets a flag, the
// default must not remove messages.
func TestOnlyFlagsChangeTheLimitsOfALog(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"--history-per-room", "2000"}, {"--history-per-room", "1500", "--max-message", "100000"}} {
		_, stop := serveUntil(t, append(args, "--data-dir", dir)...)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := command()
	cmd.SetArgs([]string{"--listen", "127.0.0.1:0", "--data-dir", dir, "--nats-monitor", "off", "--ops-listen", "off", "--log-level", "error"})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	want := "stream ROOMS has other settings: records per room (--history-per-room) is 1500, not 1000; " +
		"start with the setting the log has, or give --history-per-room to change the log"
	if err := cmd.ExecuteContext(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The standalone form stops quickly, and only this machine reaches it unless --listen says
// otherwise.
func TestDefaultsDependOnTheForm(t *testing.T) {
	for args, want := range map[string]struct {
		drain  time.Duration
		listen string
	}{
		"":                                    {time.Second, "127.0.0.1:8000"},
		"--drain-time=7s":                     {7 * time.Second, "127.0.0.1:8000"},
		"--listen=:9000":                      {time.Second, ":9000"},
		"--nats=nats://127.0.0.1:1":           {10 * time.Second, ":8000"},
		"--nats=nats://h --drain-time=0":      {0, ":8000"},
		"--nats=nats://h --listen=[::1]:8000": {10 * time.Second, "[::1]:8000"},
	} {
		s := &settings{server: server.DefaultConfig(), standalone: defaultStandalone()}
		s.server.Listen = ""
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.server.Bind(flags)
		s.nats.Bind(flags)
		if err := flags.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		if err := s.configure(flags); err != nil || s.server.DrainTime != want.drain || s.server.Listen != want.listen {
			t.Errorf("%q: got %v, %s, %v, want %v", args, s.server.DrainTime, s.server.Listen, err, want)
		}
	}
}
