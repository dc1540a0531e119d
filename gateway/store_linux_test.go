package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
)

// say sends a message over HTTP and returns the status.
func (p *process) say(t *testing.T, room, text string) int {
	t.Helper()
	status, _ := servertest.Call(t, http.MethodPost, p.base+"api/rooms/"+room+"/messages", text, "Content-Type", "text/plain")
	return status
}

// While NATS cannot write the log, readers can still read it. nats-server repeats a write error
// until it is restarted, even when the cause is gone. The gateway must store messages again then.
// Sessions must stay open, and NATS clients must find the server at its old address.
func TestLogIsWrittenAgainAfterAFailure(t *testing.T) {
	for _, sync := range []string{"always", "1s"} {
		t.Run(sync, func(t *testing.T) {
			p := launch(t, nil, `exec "$@"`, "--data-dir", t.TempDir(), "--sync", sync, "--nats-listen", "127.0.0.1:0")
			guest := p.guest(t)
			member := servertest.Join(t, p.base, "room/failing/")
			if got := p.say(t, "failing", "before"); got != 200 {
				t.Fatalf("got status %d, want 200", got)
			}
			servertest.Hear(t, member, "before")
			limitFiles(t, p, 1)
			natstest.Eventually(t, "a message to be refused", func() bool { return p.say(t, "failing", "lost") == 503 })
			canRead(t, p, "failing", "before")
			limitFiles(t, p, unix.RLIM_INFINITY)
			storesAgain(t, p, "failing", member)
			natstest.Eventually(t, "the NATS client to hear a message after the failure", func() bool {
				p.say(t, "failing", "after") // the guest may reconnect late, so send the message again
				m, err := guest.NextMsg(time.Second)
				return err == nil && strings.Contains(string(m.Data), `"text":"after"`)
			})
			canRead(t, p, "failing", "before")
		})
	}
}

// guest connects a NATS client that follows all rooms.
func (p *process) guest(t *testing.T) *nats.Subscription {
	t.Helper()
	url := regexp.MustCompile(`nats://[0-9.:]+`)
	natstest.Eventually(t, "the banner", func() bool { return url.MatchString(p.output()) })
	nc, err := nats.Connect(url.FindString(p.output()), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	sub, err := nc.SubscribeSync("room.out.>")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// limitFiles makes the process unable to write beyond the given size of a file.
func limitFiles(t *testing.T, p *process, bytes uint64) {
	t.Helper()
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
		t.Fatal(err)
	}
}

func canRead(t *testing.T, p *process, room, text string) {
	t.Helper()
	status, body := servertest.Call(t, http.MethodGet, p.base+"api/rooms/"+room+"/messages?since=0", "")
	if status != 200 || !strings.Contains(body, text) {
		t.Errorf("got status %d and %.200q, want the messages up to now", status, body)
	}
}

// storesAgain waits until a message is stored and the member has received it.
func storesAgain(t *testing.T, p *process, room string, member *websocket.Conn) {
	t.Helper()
	natstest.Eventually(t, "a message to be stored", func() bool { return p.say(t, room, "after") == 200 })
	for {
		got, code := servertest.Next(t, member)
		if code != 0 {
			t.Fatalf("the member was closed with %d", code)
		}
		if strings.HasSuffix(got, "after") {
			return
		}
	}
}

// A full disk stops only the storing of messages. When there is space again, messages are stored
// again.
func TestFullDiskStopsOnlyMessages(t *testing.T) {
	attr := &syscall.SysProcAttr{ // so that the process may mount a disk
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	dir := t.TempDir()
	p := launch(t, attr, `mount -t tmpfs -o size=32m tmpfs `+dir+` && exec "$@"`, "--data-dir", dir)
	member := servertest.Join(t, p.base, "room/full/")
	if got := p.say(t, "full", "before"); got != 200 {
		t.Fatalf("got status %d, want 200", got)
	}
	ballast := filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid), "root", dir, "ballast")
	fill(t, ballast)
	natstest.Eventually(t, "a message to be refused", func() bool { return p.say(t, "full", strings.Repeat("x", 60_000)) == 503 })
	natstest.Eventually(t, "the operator to be told", func() bool { return strings.Contains(p.output(), "the disk of the log is full") })
	canRead(t, p, "full", "before")
	if strings.Contains(p.output(), "started again") {
		t.Error("NATS restarted while the disk was full")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	storesAgain(t, p, "full", member)
	canRead(t, p, "full", "before")
}

// fill writes a file until the file's disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			size /= 2
		}
	}
}

// If the log cannot be written for a long time, the process ends and reports the cause, so that
// a supervisor can start it again.
func TestLogThatCannotBeWrittenEndsTheProcess(t *testing.T) {
	broken := errors.New("stream ROOMS: write error")
	never := func() error { return broken }
	restarts := 0
	helpless := func() error { restarts++; return nil }
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		name     string
		dir      string
		restart  func() error
		want     string
		restarts int
	}{
		{"directory that cannot be written", missing, helpless, "the log in " + missing + " cannot be written: ", 0},
		{"restarts that do not help", t.TempDir(), helpless, "3 restarts of NATS did not help: stream ROOMS", 3},
		{"restart that fails", t.TempDir(), never, "restart NATS after a write error of the log: stream ROOMS", 0},
	} {
		restarts = 0
		s := newStore(c.dir, never, c.restart, slog.New(slog.DiscardHandler))
		s.every, s.patience = 10*time.Millisecond, 300*time.Millisecond
		if err := s.watch(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
		if restarts != c.restarts {
			t.Errorf("%s: got %d restarts, want %d", c.name, restarts, c.restarts)
		}
	}
}

// The store restarts a slow NATS server only if the server is slow for longer than the store's
// patience.
func TestSlowServerIsRestartedOnlyAfterPatience(t *testing.T) {
	for _, patient := range []bool{true, false} {
		ctx, stop := context.WithCancel(t.Context())
		checks, restarts := 0, 0
		healthy := func() error {
			if checks++; checks == 20 {
				stop()
			}
			return fmt.Errorf("%w: stream ROOMS", errSlow)
		}
		s := newStore(t.TempDir(), healthy, func() error { restarts++; return nil }, slog.New(slog.DiscardHandler))
		if s.every, s.patience = time.Millisecond, time.Hour; !patient {
			s.patience = 0
		}
		err := s.watch(ctx)
		stop()
		if patient && (err != nil || restarts != 0) || !patient && (err == nil || restarts != s.attempts) {
			t.Errorf("patient %v: got %d restarts and %v", patient, restarts, err)
		}
	}
}
