package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
)

// One address opens as many connections as it can. Meanwhile the sessions of all other addresses
// must continue and receive their acks. The log must keep the descriptors that it needs.
func TestConnectionFloodStopsNobody(t *testing.T) {
	const files = 400
	for _, c := range []struct{ sync, perAddress string }{{"always", "0"}, {"1s", "0"}, {"always", "50"}, {"1s", "50"}} {
		t.Run(c.sync+", "+c.perAddress+" an address", func(t *testing.T) {
			p := launch(t, nil, fmt.Sprintf(`ulimit -n %d; exec "$@"`, files), "--data-dir", t.TempDir(), "--sync", c.sync,
				"--max-connections-per-address", c.perAddress, "--rate", "0", "--api-token-file", servertest.File(t, "a-token-for-this-test"))
			ctx, stop := context.WithCancel(t.Context())
			var talking sync.WaitGroup
			defer func() { stop(); talking.Wait() }()
			others := make([]*talker, 5)
			for i := range others {
				others[i] = &talker{conn: dialJSON(t, p.base, "talk")}
				talking.Go(func() { others[i].talk(ctx) })
			}
			phase := func(name string) {
				for i, o := range others {
					acks, longest, err := o.take()
					t.Logf("%s: session %d had %d acks, the longest wait was %v", name, i, acks, longest.Round(time.Millisecond))
					if err != nil || acks == 0 || longest > 5*time.Second {
						t.Errorf("%s: session %d had %d acks, waited up to %v, and got %v", name, i, acks, longest, err)
					}
				}
			}
			time.Sleep(time.Second)
			phase("before")

			flood := startFlood(t, strings.TrimSuffix(strings.TrimPrefix(p.base, "http://"), "/"), 600)
			most := 0
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, len(fds))
			}
			if c.perAddress != "0" {
				dialJSON(t, p.base, "newcomer").CloseNow()
			}
			opened := flood.stop()
			phase("during")
			t.Logf("the flood opened %d connections; the gateway had up to %d of %d descriptors", opened, most, files)
			if most > files-50 {
				t.Errorf("the gateway had %d of %d descriptors, want 50 left for the log", most, files)
			}
			natstest.Eventually(t, "a new session to be served", func() bool {
				conn, _, err := websocket.Dial(ctx, strings.Replace(p.base, "http", "ws", 1)+"room/after/", nil)
				if err != nil {
					return false
				}
				conn.CloseNow()
				return true
			})
			time.Sleep(2 * time.Second) // longer than the interval of --sync
			phase("after")
			for _, bad := range []string{"too many open files", "write error", "accepting held"} {
				if strings.Contains(p.output(), bad) {
					t.Errorf("the gateway's log has %q", bad)
				}
			}
		})
	}
}

func dialJSON(t *testing.T, base, room string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(base, "http", "ws", 1)+"room/"+room+"/",
		&websocket.DialOptions{Subprotocols: []string{"roomcast.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

// talker sends one message after another and waits for each ack. If a message is refused
// temporarily, talker sends it again, as clients do.
type talker struct {
	conn *websocket.Conn

	mu      sync.Mutex // guards the fields below
	acks    int
	longest time.Duration
	err     error
}

func (s *talker) talk(ctx context.Context) {
	for id := 1; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		begun := time.Now()
		err := s.say(ctx, id)
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.acks++
		s.longest = max(s.longest, time.Since(begun))
		s.err = err
		s.mu.Unlock()
		if err != nil {
			return
		}
		id++
	}
}

func (s *talker) say(ctx context.Context, id int) error {
	message, answer := fmt.Appendf(nil, `{"id":%d,"say":{"text":"hello","key":"k%d"}}`, id, id), fmt.Sprintf(`{"id":%d,`, id)
	if err := s.conn.Write(ctx, websocket.MessageText, message); err != nil {
		return err
	}
	for {
		_, got, err := s.conn.Read(ctx)
		switch {
		case err != nil:
			return err
		case !strings.HasPrefix(string(got), answer):
		case strings.Contains(string(got), `"ok"`):
			return nil
		default:
			if err := s.conn.Write(ctx, websocket.MessageText, message); err != nil {
				return err
			}
		}
	}
}

// take returns the counts since its last call.
func (s *talker) take() (acks int, longest time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	acks, longest, err = s.acks, s.longest, s.err
	s.acks, s.longest = 0, 0
	return acks, longest, err
}

// flood is an address that opens connections. When one of its connections is closed, it opens
// another.
type flood struct {
	stop func() (opened int64)
}

func startFlood(t *testing.T, address string, conns int) *flood {
	ctx, cancel := context.WithCancel(t.Context())
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	first := []string{ // the first bytes of a connection
		"", "", "GET /room/x/ HTTP/1.1\r\nHost:", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	}
	var opened atomic.Int64
	var running sync.WaitGroup
	for i := range conns {
		running.Go(func() {
			for ctx.Err() == nil {
				if nc, err := dialer.DialContext(ctx, "tcp", address); err == nil {
					opened.Add(1)
					done := context.AfterFunc(ctx, func() { nc.Close() })
					nc.Write([]byte(first[i%len(first)]))
					for b := make([]byte, 4096); err == nil; {
						_, err = nc.Read(b)
					}
					done()
					nc.Close()
				}
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond):
				}
			}
		})
	}
	f := &flood{stop: func() int64 { cancel(); running.Wait(); return opened.Load() }}
	t.Cleanup(func() { f.stop() })
	return f
}
