package loop_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"roomcast/gateway/loop"
	"roomcast/proto/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a handler made of functions. If a function is missing, it echoes the bytes that it
// receives.
type script struct {
	l        *loop.Loop
	opened   func(id loop.ID)
	received func(id loop.ID, p []byte) int
	writable func(id loop.ID)
	due      func(id loop.ID)
	turn     func() bool

	mu   sync.Mutex // guards the fields below
	open map[loop.ID]bool
	gone map[loop.ID][]error
}

func (s *script) Opened(id loop.ID, peer netip.AddrPort) {
	s.mu.Lock()
	s.open[id] = true
	s.mu.Unlock()
	if s.opened != nil {
		s.opened(id)
	}
}

func (s *script) Received(id loop.ID, p []byte) int {
	if s.received != nil {
		return s.received(id, p)
	}
	return s.l.Write(id, p)
}

func (s *script) Writable(id loop.ID) {
	if s.writable != nil {
		s.writable(id)
	}
}

func (s *script) Due(id loop.ID) {
	if s.due != nil {
		s.due(id)
	}
}

func (s *script) Gone(id loop.ID, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
	s.gone[id] = append(s.gone[id], why)
}

func (s *script) Turn() bool { return s.turn != nil && s.turn() }

// conns returns the IDs of the open connections.
func (s *script) conns() (ids []loop.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.open {
		ids = append(ids, id)
	}
	return ids
}

// goneErrors returns the errors that Gone has received, for all ended connections.
func (s *script) goneErrors() (errs []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.gone {
		errs = append(errs, w...)
	}
	return errs
}

// eachBackend runs a test against every backend.
func eachBackend(t *testing.T, test func(t *testing.T, cfg loop.Config)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			cfg := loop.DefaultConfig()
			cfg.Address = "127.0.0.1:0"
			cfg.Loops = 1
			cfg.Log = slog.New(slog.DiscardHandler)
			cfg.Portable = b.portable
			test(t, cfg)
		})
	}
}

var backends = []struct {
	name     string
	portable bool
}{{"native", false}, {"portable", true}}

// serve runs one loop with h until the test ends, and returns its address.
func serve(t testing.TB, cfg loop.Config, h *script) string {
	t.Helper()
	loops, addr, err := loop.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, loops[0], h)
	return addr.String()
}

// run runs l with h until the test ends or stop is called.
func run(t testing.TB, l *loop.Loop, h *script) (stop func()) {
	h.l, h.open, h.gone = l, map[loop.ID]bool{}, map[loop.ID][]error{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, h) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

var eventually = natstest.Eventually
