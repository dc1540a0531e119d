package loop_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roomcast/gateway/loop"
)

type detached struct {
	conn net.Conn
	err  error
}

// oneListener is a net.Listener that hands detached connections to an http.Server.
type oneListener struct {
	conns chan detached
	close sync.Once
}

func (l *oneListener) Accept() (net.Conn, error) {
	d, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return d.conn, d.err
}
func (l *oneListener) Close() error   { l.close.Do(func() { close(l.conns) }); return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestLoopsShareAnAddress(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		cfg.Loops = 2
		loops, addr, err := loop.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		a, b := &script{}, &script{}
		run(t, loops[0], a)
		run(t, loops[1], b)
		for range 64 {
			dial(t, addr.String())
		}
		eventually(t, "all accepted, some by each", func() bool {
			return len(a.conns())+len(b.conns()) == 64 && len(a.conns()) > 0 && len(b.conns()) > 0
		})
		cfg.Address = addr.String()
		if _, _, err := loop.Listen(cfg); err == nil {
			t.Fatal("two listeners could take the same address")
		}
	})
}

func TestStopAcceptingKeepsConnections(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		h := &script{}
		addr := serve(t, cfg, h)
		c := dial(t, addr)
		eventually(t, "accepted", func() bool { return len(h.conns()) == 1 })
		stopped := make(chan bool)
		h.l.Post(func() { h.l.StopAccepting(); h.l.StopAccepting(); close(stopped) })
		<-stopped
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Fatal("accepted after StopAccepting")
		}
		echo(t, c, "still here")
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		loops, addr, err := loop.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		h := &script{}
		stop := run(t, loops[0], h)
		c := dial(t, addr.String())
		echo(t, c, "hello")
		stop()
		if errs := h.goneErrors(); len(errs) != 1 || errs[0] != loop.ErrStopped {
			t.Fatalf("got %v, want %v", errs, loop.ErrStopped)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("the connection is still open")
		}
		if loops[0].Post(func() {}) {
			t.Fatal("Post after the end returned true")
		}
	})
}

func TestLoopThatIsNeverRunCanBeClosed(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		loops, addr, err := loop.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := loops[0].Run(ctx, &script{}); err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("tcp", addr.String()); err == nil {
			c.Close()
			t.Fatal("still listening")
		}
	})
}

func TestPostKeepsOrderAndWakes(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		h := &script{}
		serve(t, cfg, h)
		const posters, each = 8, 1000
		var last [posters]int
		var ran atomic.Int32
		var wg sync.WaitGroup
		for p := range posters {
			wg.Go(func() {
				for i := range each {
					if i%100 == 0 {
						time.Sleep(time.Millisecond) // the loop may sleep now
					}
					for !h.l.Post(func() {
						if last[p] != i {
							t.Errorf("poster %d: got %d, want %d", p, i, last[p])
						}
						last[p]++
						ran.Add(1)
					}) {
						runtime.Gosched() // the loop is not running yet
					}
				}
			})
		}
		wg.Wait()
		eventually(t, "all posted functions ran", func() bool { return ran.Load() == posters*each })
	})
}

func TestPostIsBounded(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		cfg.MaxPosted = 10
		h := &script{}
		serve(t, cfg, h)
		busy, free := make(chan bool), make(chan bool)
		eventually(t, "running", func() bool { return h.l.Post(func() { busy <- true; <-free }) })
		<-busy
		taken := 0
		for range 100 {
			if h.l.Post(func() {}) {
				taken++
			}
		}
		close(free)
		if taken != 10 {
			t.Fatalf("got %d posted, want 10", taken)
		}
	})
}

func TestIDsOfGoneConnectionsDoNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		h := &script{}
		addr := serve(t, cfg, h)
		c := dial(t, addr)
		echo(t, c, "first")
		old := h.conns()[0]
		c.Close()
		eventually(t, "gone", func() bool { return len(h.goneErrors()) == 1 })
		c = dial(t, addr)
		echo(t, c, "second")
		if id := h.conns()[0]; id.Slot() != old.Slot() || id == old {
			t.Fatalf("got %x after %x, want another ID in the same slot", id, old)
		}
		done := make(chan bool)
		h.l.Post(func() {
			h.l.Pause(old)
			h.l.SetDeadline(old, 0)
			h.l.Write(old, []byte("stray"))
			h.l.CloseWrite(old)
			h.l.Close(old)
			h.l.Close(0)
			close(done)
		})
		<-done
		echo(t, c, "third")
	})
}

// In one iteration, a loop serves every peer that has sent something. A peer that sends a flood
// gets no larger share than the others.
func TestFloodDoesNotStarveOthers(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		h := &script{}
		h.received = func(id loop.ID, p []byte) int {
			if len(p) < 100 {
				h.l.Write(id, p)
			}
			return len(p)
		}
		addr := serve(t, cfg, h)
		flood := dial(t, addr)
		quit := make(chan bool)
		var wg sync.WaitGroup
		wg.Go(func() {
			chunk := make([]byte, 1<<20)
			for {
				select {
				case <-quit:
					return
				default:
					flood.Write(chunk)
				}
			}
		})
		c := dial(t, addr)
		for range 200 {
			echo(t, c, "ping")
		}
		close(quit)
		flood.Close()
		wg.Wait()
	})
}

func echo(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(s))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != s {
		t.Fatalf("got %q, %v, want %q", b, err, s)
	}
}
