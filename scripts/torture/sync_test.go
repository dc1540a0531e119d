//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Killing a process does not show what a power cut would lose, because the kernel keeps what a
// killed process has written. So these tests trace the system calls of the processes with strace.
// With "sync always", there must be an fsync of the log's file between the sending of a message and
// its ack. With a long sync interval, there must be no such fsync. This second run shows that the
// method works.

const spoken = 20 // messages that a test sends, one after another

func TestEmbeddedSyncsBeforeAck(t *testing.T) {
	bin := build(t, "roomcast/gateway")
	for _, test := range []struct {
		sync string
		want int
	}{{"always", spoken}, {"2m", 0}} {
		t.Run(test.sync, func(t *testing.T) {
			listen, ops := freeAddress(t), freeAddress(t)
			data := t.TempDir()
			trace := traced(t, nil, bin, "--listen", listen, "--ops-listen", ops, "--nats-monitor", "off",
				"--data-dir", data, "--sync", test.sync)
			await(t, "http://"+ops+"/readyz")
			var said []interval
			for i := range spoken {
				from := time.Now()
				resp, err := http.Post("http://"+listen+"/api/rooms/sync/messages", "text/plain", strings.NewReader(strconv.Itoa(i)))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Fatalf("got %s, want 200", resp.Status)
				}
				said = append(said, interval{from, time.Now()})
			}
			if got := synced(t, trace(), data, said); got != test.want {
				t.Errorf("--sync %s: %d of %d messages were synced before they were acknowledged, want %d", test.sync, got, spoken, test.want)
			}
		})
	}
}

func TestShippedConfigurationSyncsBeforeAck(t *testing.T) {
	server, service := build(t, "github.com/nats-io/nats-server/v2"), build(t, "roomcast/roomsvc")
	shipped, err := os.ReadFile("../nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		sync string
		want int
	}{{"always", spoken}, {"2m", 0}} {
		t.Run(test.sync, func(t *testing.T) {
			listen, monitor, data := freeAddress(t), freeAddress(t), t.TempDir()
			conf := strings.NewReplacer(
				"0.0.0.0:4222", listen, "0.0.0.0:8222", monitor, "store_dir: /data", "store_dir: "+strconv.Quote(data),
				"sync_interval: always", "sync_interval: "+test.sync,
			).Replace(string(shipped))
			path := filepath.Join(t.TempDir(), "nats.conf")
			if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			env := []string{"NATS_SERVER_NAME=n1", "NATS_GATEWAY_PASSWORD=secret", "NATS_ROOMSVC_PASSWORD=secret", "NATS_OPERATOR_PASSWORD=secret", "NATS_ADMIN_PASSWORD=secret"}
			trace := traced(t, env, server, "-c", path)
			await(t, "http://"+monitor+"/healthz")
			ops := freeAddress(t)
			start(t, []string{"NATS_PASSWORD=secret"}, service, "--nats", "nats://"+listen, "--user", "roomsvc",
				"--inbox-prefix", "_INBOX_roomsvc", "--ops-listen", ops, "--sync", test.sync)
			await(t, "http://"+ops+"/readyz")
			nc, err := nats.Connect("nats://"+listen, nats.UserInfo("operator", "secret"))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			var said []interval
			for range spoken {
				from := time.Now()
				reply, err := nc.Request("room.sync", []byte("hello"), 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(string(reply.Data), `{"ok"`) {
					t.Fatalf("got %s, want ok", reply.Data)
				}
				said = append(said, interval{from, time.Now()})
			}
			if got := synced(t, trace(), data, said); got != test.want {
				t.Errorf("sync_interval %s: %d of %d messages were synced before they were acknowledged, want %d", test.sync, got, spoken, test.want)
			}
		})
	}
}

type interval struct{ from, to time.Time }

// synced counts the intervals in said during which an fsync of a message file below dir began and
// ended. A line of the trace looks like this:
//
//	4711 1763837587.123456 fsync(9</data/jetstream/$G/streams/ROOMS/msgs/1.blk>) = 0 <0.000201>
func synced(t *testing.T, trace, dir string, said []interval) int {
	t.Helper()
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var syncs []interval
	begun := map[string]time.Time{} // by thread: when a call began that strace shows in two lines
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		seconds, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			continue
		}
		at := time.UnixMicro(int64(seconds * 1e6))
		line := lines.Text()
		switch {
		case strings.Contains(line, "<unfinished ...>"):
			delete(begun, fields[0])
			if ofMessages(line, dir) {
				begun[fields[0]] = at
			}
		case strings.Contains(line, "resumed>"):
			if from, ok := begun[fields[0]]; ok && strings.Contains(line, "= 0") {
				syncs = append(syncs, interval{from, at})
			}
			delete(begun, fields[0])
		case ofMessages(line, dir) && strings.Contains(line, "= 0"):
			took, _ := strconv.ParseFloat(strings.Trim(fields[len(fields)-1], "<>"), 64)
			syncs = append(syncs, interval{at, at.Add(time.Duration(took * 1e9))})
		}
	}
	n := 0
	for _, s := range said {
		for _, sync := range syncs {
			if !sync.from.Before(s.from) && !sync.to.After(s.to) {
				n++
				break
			}
		}
	}
	return n
}

func ofMessages(line, dir string) bool {
	return strings.Contains(line, dir) && strings.Contains(line, "/ROOMS/msgs/") && strings.Contains(line, ".blk>")
}

func build(t *testing.T, pkg string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := exec.Command("go", "build", "-o", bin, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return bin
}

// traced starts a program under strace. The returned function ends both and returns the path of the
// trace.
func traced(t *testing.T, env []string, bin string, args ...string) func() string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	args = append([]string{"-f", "-y", "-ttt", "-T", "-e", "trace=fsync,fdatasync", "-o", trace, bin}, args...)
	stop := start(t, env, "strace", args...)
	return func() string {
		stop()
		return trace
	}
}

// start starts a program in a process group of its own. The function stop, or the end of the test,
// kills the group.
func start(t *testing.T, env []string, bin string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = io.Discard, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", bin, err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
		}
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said: %s", filepath.Base(bin), output.String())
		}
	})
	return stop
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// await waits until a URL answers with 200.
func await(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	last := fmt.Errorf("not asked")
	for ctx.Err() == nil {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("%s", resp.Status)
		}
		last = err
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("wait for %s: %v", url, last)
}
