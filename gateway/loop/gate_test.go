package loop_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"roomcast/gateway/loop"
)

// turnstile is a gate that accepts a limited number of connections at a time.
type turnstile struct {
	most, in, left atomic.Int64
}

func (g *turnstile) Enter(peer netip.Addr, _ time.Time) ([]byte, bool) {
	if !peer.IsLoopback() || g.in.Add(1) > g.most.Load() {
		g.in.Add(-1)
		return []byte("full"), false
	}
	return nil, true
}

func (g *turnstile) Leave(netip.Addr) { g.in.Add(-1); g.left.Add(1) }

// If the gate refuses a connection, the loop sends the gate's answer and closes the connection
// at once. It does not call the handler.
func TestGateClosesAtOnce(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		gate := new(turnstile)
		gate.most.Store(2)
		cfg.Gate = gate
		h := &script{}
		addr := serve(t, cfg, h)
		first, second := dial(t, addr), dial(t, addr)
		echo(t, first, "in")
		echo(t, second, "in too")
		for range 100 {
			c := dial(t, addr)
			c.SetDeadline(time.Now().Add(time.Second)) // far less than any time limit of a handshake
			if got, err := io.ReadAll(c); err != nil || string(got) != "full" {
				t.Fatalf("got %q, %v, want the refusal and the end", got, err)
			}
			c.Close()
		}
		if n := len(h.conns()); n != 2 {
			t.Errorf("the handler knows %d connections, want 2", n)
		}
		echo(t, first, "still in")
		if n := gate.left.Load(); n != 0 {
			t.Errorf("Leave was called %d times, want 0, because the handler knows both", n)
		}
	})
}

// The loop ends while connections that the gate has accepted wait for the handler. Then the loop calls
// Leave for them.
func TestLoopThatEndsCallsLeave(t *testing.T) {
	const waiting = 50
	gate := new(turnstile)
	gate.most.Store(1 + waiting)
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops, cfg.Gate, cfg.Portable = "127.0.0.1:0", 1, gate, true
	loops, addr, err := loop.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	busy, free := make(chan bool), make(chan bool)
	h := &script{l: loops[0], open: map[loop.ID]bool{}, gone: map[loop.ID][]error{}}
	h.received = func(_ loop.ID, p []byte) int {
		close(busy)
		<-free
		return len(p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- loops[0].Run(ctx, h) }()
	dial(t, addr.String()).Write([]byte("x"))
	<-busy
	for range waiting {
		dial(t, addr.String())
	}
	eventually(t, "the gate to accept all", func() bool { return gate.in.Load() == 1+waiting })
	cancel()
	close(free)
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := gate.left.Load(); n != waiting {
		t.Errorf("Leave was called %d times, want %d", n, waiting)
	}
}

// With TLS, the loop asks the gate before the handshake. So a silent peer beyond the limit uses
// no descriptor. After a failed handshake the loop calls Leave.
func TestGateComesBeforeTLS(t *testing.T) {
	gate := new(turnstile)
	gate.most.Store(2)
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops, cfg.Gate = "127.0.0.1:0", 1, gate
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}
	h := &script{}
	addr := serve(t, cfg, h)
	silent := dial(t, addr)
	secure, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { secure.Close() })
	echo(t, secure, "in")
	third := dial(t, addr)
	third.SetDeadline(time.Now().Add(time.Second))
	if got, err := io.ReadAll(third); err != nil || len(got) > 0 {
		t.Errorf("got %q, %v, want the end and nothing before it", got, err)
	}
	silent.Close()
	eventually(t, "the silent one has left", func() bool { return gate.left.Load() == 1 })
	echo(t, secure, "still in")
}
