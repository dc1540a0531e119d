package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/spf13/pflag"

	"roomcast/gateway/server"
	"roomcast/gateway/server/servertest"
)

// serve runs a standalone gateway in this process until the test ends, with a new data
// directory. It returns the address in the gateway's banner.
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

// serveUntil is like serve, for tests that stop the gateway themselves. The function stop
// returns the result of the gateway. It may be called more than once.
func serveUntil(t *testing.T, args ...string) (base string, stop func() error) {
	t.Helper()
	return serveLogging(t, os.Stderr, args...)
}

// serveLogging is like serveUntil, with a writer that receives the log.
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

// Only flags that are set explicitly change the limits of an existing log. So an operator who
// forgets a flag loses no messages.
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

// By default, the standalone form stops quickly, and only this machine can reach it.
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

// If an address is in use, the error names the flag with this address.
func TestAddressInUseNamesTheFlag(t *testing.T) {
	base := serve(t)
	taken := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), "/")
	for _, flag := range []string{"--listen", "--ops-listen", "--nats-monitor", "--nats-listen"} {
		cmd := command()
		cmd.SetArgs([]string{"--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--nats-monitor", "off",
			"--ops-listen", "off", "--log-level", "error", flag, taken})
		cmd.SetOut(io.Discard)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), flag+": ") {
			t.Errorf("%s %s: got %v, want an error that names it", flag, taken, err)
		}
	}
}

// With --log-messages, the log contains one line for each message, whether it came over
// WebSocket, HTTP or NATS. The line never contains the message's text.
func TestLogMessagesWritesOneLineWithoutTheText(t *testing.T) {
	var log strings.Builder
	base, stop := serveLogging(t, &log, "--log-level", "info", "--log-messages")
	member := servertest.Join(t, base, "room/lobby/")
	if err := member.Write(t.Context(), websocket.MessageText, []byte("CANARY")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := member.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := servertest.Call(t, "POST", base+"api/rooms/lobby/messages", "CANARY", "Content-Type", "text/plain"); status != 200 {
		t.Fatalf("got %d %s, want 200", status, body)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(log.String(), "msg=message room=lobby"); got != 2 || strings.Contains(log.String(), "CANARY") {
		t.Errorf("got %d lines for 2 messages, or their text:\n%s", got, log.String())
	}
}

// The command ready works even if there is no listener for operators.
func TestReadyWorksWithoutOps(t *testing.T) {
	base := serve(t, "--path-prefix", "/chat")
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	ready := func(listen string) (string, error) {
		cmd := command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"ready", "--ops-listen", "off", "--path-prefix", "/chat", "--listen", listen})
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	if out, err := ready(u.Host); err != nil || out != "ready\n" {
		t.Errorf("got %q, %v, want ready", out, err)
	}
	if out, err := ready("127.0.0.1:1"); err == nil {
		t.Errorf("nobody listens: got %q, want an error", out)
	}
}

// The gateway logs each refused page, because the page itself cannot find out the reason.
func TestRefusedPageIsLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	base, stop := serveLogging(t, file, "--log-level", "warn", "--loops", "1")
	defer stop()
	for range 3 {
		header := http.Header{"Origin": {"http://chat.test:28090"}}
		if _, resp, err := websocket.Dial(t.Context(), strings.Replace(base, "http", "ws", 1)+"room/lobby/", &websocket.DialOptions{HTTPHeader: header}); err == nil || resp.StatusCode != 403 {
			t.Fatalf("got %v, want 403", err)
		}
	}
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "page refused"); n != 1 || !strings.Contains(string(log), "--allow-origin http://chat.test:28090") {
		t.Errorf("got %d lines, want one that says how to allow the page:\n%s", n, log)
	}
}

// rotate-keys works while the gateway is stopped. Earlier resume strings stay valid without
// --now, and become invalid with it.
func TestKeysOfAStoppedGatewayAreRotated(t *testing.T) {
	dir := t.TempDir()
	rotate := func(args ...string) (string, error) {
		cmd := command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(append([]string{"rotate-keys", "--data-dir", dir, "--log-level", "error"}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	text := func(frame, name string) string {
		_, rest, _ := strings.Cut(frame, `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	id, resume := "", ""
	for i, args := range [][]string{{}, {"--now"}, nil} {
		base, stop := serveUntil(t, "--data-dir", dir)
		protocols := []string{"roomcast.v1"}
		if resume != "" {
			protocols = append(protocols, "resume."+resume)
		}
		conn := servertest.Join(t, base, "ws", protocols...)
		hello, _ := servertest.Next(t, conn)
		conn.CloseNow()
		if got := text(hello, "id"); i == 1 && got != id || i == 2 && got == id || got == "" {
			t.Errorf("start %d: the resume string of %s gave %s", i, id, got)
		}
		id, resume = text(hello, "id"), text(hello, "resume")
		if out, err := rotate("--now"); err == nil || !strings.Contains(err.Error(), "in use by another gateway") {
			t.Errorf("while the gateway runs: got %q, %v, want an error", out, err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if args == nil {
			break
		}
		if out, err := rotate(args...); err != nil || !strings.Contains(out, "new signing key") {
			t.Errorf("rotate-keys %v: got %q, %v", args, out, err)
		}
	}
	if out, err := rotate("--nats", "nats://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "roomsvc rotate-keys") {
		t.Errorf("with --nats: got %q, %v, want an error", out, err)
	}
}
