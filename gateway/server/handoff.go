package server

import (
	"net"
	"sync"

	"roomcast/gateway/mailbox"
)

// maxHandoffs bounds the connections that wait for Accept.
const maxHandoffs = 256

// handoff is a [net.Listener] without a socket. Its Accept returns connections that event loops
// pass on because the request is plain HTTP. Only one goroutine may call Accept. The other
// methods are safe for concurrent use.
type handoff struct {
	addr   net.Addr
	box    *mailbox.Box[net.Conn]
	closed chan struct{}
	once   sync.Once

	batch []net.Conn // connections taken from box; owned by the goroutine that calls Accept
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, box: mailbox.NewBounded[net.Conn](maxHandoffs, nil), closed: make(chan struct{})}
}

// give passes a connection to Accept. It never blocks: if the mailbox is full or the listener is
// closed, it closes the connection.
func (h *handoff) give(c net.Conn) {
	if !h.box.Offer(c, 1) {
		c.Close()
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	for len(h.batch) == 0 {
		select {
		case <-h.box.Wake():
			h.batch = h.box.Take(nil)
		case <-h.closed:
			return nil, net.ErrClosed
		}
	}
	c := h.batch[0]
	h.batch = h.batch[1:]
	return c, nil
}

// Close makes Accept return an error, and closes the connections that Accept has not returned.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	for _, c := range h.box.Close() {
		c.Close()
	}
	return nil
}

func (h *handoff) Addr() net.Addr { return h.addr }
