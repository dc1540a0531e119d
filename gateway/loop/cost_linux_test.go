package loop_test

import (
	"context"
	"io"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roomcast/gateway/loop"
)

func TestEchoDoesNotAllocate(t *testing.T) {
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	h := &script{}
	h.received = func(id loop.ID, p []byte) int {
		h.l.SetDeadline(id, time.Minute)
		if len(p) == 3 {
			return 0 // the loop keeps the bytes and passes them again with the rest
		}
		return h.l.Write(id, p)
	}
	c := dial(t, serve(t, cfg, h))
	ping, in := []byte("ping"), make([]byte, 4)
	trip := func() {
		c.Write(ping[:3])
		c.Write(ping[3:])
		if _, err := io.ReadFull(c, in); err != nil {
			t.Fatal(err)
		}
	}
	trip()
	if n := testing.AllocsPerRun(200, trip); n != 0 {
		t.Fatalf("got %v allocations a round trip, want 0", n)
	}
}

func TestConnectionsNeedNoGoroutine(t *testing.T) {
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	h := &script{}
	addr := serve(t, cfg, h)
	before := runtime.NumGoroutine()
	for range 50 {
		dial(t, addr)
	}
	eventually(t, "accepted", func() bool { return len(h.conns()) == 50 })
	if n := runtime.NumGoroutine(); n > before {
		t.Fatalf("got %d goroutines, want %d as before", n, before)
	}
}

// counter is a handler that only keeps the IDs of connections.
type counter struct {
	l    *loop.Loop
	ids  []loop.ID
	open atomic.Int32
}

func (c *counter) Opened(id loop.ID, _ netip.AddrPort) { c.ids = append(c.ids, id); c.open.Add(1) }
func (c *counter) Received(_ loop.ID, p []byte) int    { return len(p) }
func (c *counter) Writable(loop.ID)                    {}
func (c *counter) Due(loop.ID)                         {}
func (c *counter) Gone(loop.ID, error)                 { c.open.Add(-1) }
func (c *counter) Turn() bool                          { return false }

func serveCounter(b *testing.B) (*counter, string) {
	b.Helper()
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	loops, addr, err := loop.Listen(cfg)
	if err != nil {
		b.Fatal(err)
	}
	c := &counter{l: loops[0]}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.l.Run(ctx, c) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return c, addr.String()
}

// threadTime returns the processor time of the calling thread.
func threadTime() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// crowd is a number of raw sockets connected to addr, with a thread that reads from all of them.
type crowd struct {
	fds  []int
	epfd int
	got  atomic.Int64 // bytes
	done chan struct{}
}

func newCrowd(tb testing.TB, addr string, n int) *crowd {
	tb.Helper()
	c := &crowd{done: make(chan struct{})}
	var err error
	if c.epfd, err = unix.EpollCreate1(0); err != nil {
		tb.Fatal(err)
	}
	for range n {
		fd := dialRaw(tb, addr)
		c.fds = append(c.fds, fd)
		if err := unix.EpollCtl(c.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			tb.Fatal(err)
		}
	}
	go c.read()
	tb.Cleanup(func() {
		for _, fd := range c.fds {
			unix.Shutdown(fd, unix.SHUT_RDWR)
		}
		<-c.done
	})
	return c
}

// read reads until the peers have closed all sockets.
func (c *crowd) read() {
	defer close(c.done)
	events, buf := make([]unix.EpollEvent, 512), make([]byte, 64<<10)
	for open := len(c.fds); open > 0; {
		n, _ := unix.EpollWait(c.epfd, events, -1)
		for i := range max(n, 0) {
			got, err := unix.Read(int(events[i].Fd), buf)
			if got <= 0 && err != unix.EAGAIN {
				unix.Close(int(events[i].Fd))
				open--
			}
			c.got.Add(int64(max(got, 0)))
		}
	}
	unix.Close(c.epfd)
}

func dialRaw(tb testing.TB, addr string) int {
	tb.Helper()
	ap := netip.MustParseAddrPort(addr)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}); err != nil {
		tb.Fatal(err)
	}
	unix.SetNonblock(fd, true)
	return fd
}

// BenchmarkIdle reports the Go memory of an idle connection.
func BenchmarkIdle(b *testing.B) {
	h, addr := serveCounter(b)
	const conns = 8192 // two chunks of the slab
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	fds := make([]int, 0, conns)
	before := memory()
	for range conns {
		fds = append(fds, dialRaw(b, addr))
	}
	eventually(b, "accepted", func() bool { return h.open.Load() == conns })
	perConn := float64(memory()-before) / conns
	for _, fd := range fds {
		unix.Close(fd)
	}
	for b.Loop() { // one measurement is enough
	}
	b.ReportMetric(perConn, "B/conn")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFanout writes a frame to each of many connections, through the loop and, for
// comparison, with plain system calls. It reports the processor time of the writing thread per
// delivery.
func BenchmarkFanout(b *testing.B) {
	const members = 1000
	frame := make([]byte, 130)
	h, addr := serveCounter(b)
	crowd := newCrowd(b, addr, members)
	eventually(b, "accepted", func() bool { return h.open.Load() == members })

	rounds := func(b *testing.B, write func()) {
		var cpu time.Duration
		want := crowd.got.Load()
		for b.Loop() {
			done := make(chan time.Duration)
			h.l.Post(func() {
				runtime.LockOSThread()
				begin := threadTime()
				write()
				took := threadTime() - begin
				runtime.UnlockOSThread()
				done <- took
			})
			cpu += <-done
			want += members * int64(len(frame))
			for crowd.got.Load() < want {
				runtime.Gosched()
			}
		}
		b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N*members), "cpu-ns/delivery")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("loop", func(b *testing.B) {
		rounds(b, func() {
			for _, id := range h.ids {
				if h.l.Write(id, frame) != len(frame) {
					b.Error("a write was short")
				}
			}
		})
	})
	b.Run("bare", func(b *testing.B) {
		var fds []int
		for _, id := range h.ids {
			fds = append(fds, loop.FD(h.l, id))
		}
		rounds(b, func() {
			for _, fd := range fds {
				if n, err := unix.Write(fd, frame); n != len(frame) {
					b.Error(err)
				}
			}
		})
	})
}
