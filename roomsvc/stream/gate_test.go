package stream

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"roomcast/proto/natstest"
)

// gate is a proxy in front of a server. While it is shut, connections stay open, but no bytes
// pass.
type gate struct {
	url  string
	mu   sync.RWMutex // locked for writing while the gate is shut
	once sync.Once
}

func newGate(t testing.TB, s *natstest.Server) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{url: "nats://" + ln.Addr().String()}
	var tasks sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	tasks.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(s.ClientURL(), "nats://"))
			if err != nil {
				near.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, near, far)
			mu.Unlock()
			tasks.Go(func() { g.copy(far, near) })
			tasks.Go(func() { g.copy(near, far) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		tasks.Wait()
	})
	return g
}

func (g *gate) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		g.mu.RLock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				g.mu.RUnlock()
				return
			}
		}
		g.mu.RUnlock()
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}

func (g *gate) shut() { g.mu.Lock() }
func (g *gate) open() { g.once.Do(g.mu.Unlock) }
