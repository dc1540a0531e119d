package server

import (
	"net"
	"sync"
)

// handoff is a listener without a socket: it accepts the connections that event loops
// let go because their request is plain HTTP.
type handoff struct {
	addr   net.Addr
	conns  chan net.Conn // never closed
	closed chan struct{}
	once   sync.Once
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, conns: make(chan net.Conn, 256), closed: make(chan struct{})}
}

// give hands a connection over; it never blocks. A connection that finds the queue
// full or the listener closed is closed.
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
	case <-h.closed: // meanwhile: what Close has not seen
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

// Close ends Accept and closes what nobody has accepted.
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
