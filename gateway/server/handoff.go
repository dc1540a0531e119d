package server

import (
	"net"
	"sync"
)

// handoff is a [net.Listener] without a socket. It accepts the connections that event loops
// give away because their request is plain HTTP. It is safe for concurrent use.
type handoff struct {
	addr   net.Addr
	conns  chan net.Conn // never closed; when it is full, give closes the connection
	closed chan struct{}
	once   sync.Once
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, conns: make(chan net.Conn, 256), closed: make(chan struct{})}
}

// give hands a connection over without blocking. It closes the connection if the queue is
// full or the listener is closed.
func (h *handoff) give(c net.Conn) {
	select {
	case <-h.closed:
		c.Close()
		return
	default:
	}
	select {
	case h.conns <- c:
	default:
		c.Close()
		return
	}
	select {
	case <-h.closed: // Close may have missed c
		h.Close()
	default:
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and closes the connections that were not accepted.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	for {
		select {
		case c := <-h.conns:
			c.Close()
		default:
			return nil
		}
	}
}

func (h *handoff) Addr() net.Addr { return h.addr }
