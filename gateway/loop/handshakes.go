package loop

import (
	"container/list"
	"net"
	"sync"
)

// maxHandshakes bounds the TLS handshakes that a loop has under way.
const maxHandshakes = 1024

// handshakes are the connections whose TLS handshake is under way, the oldest first. When
// there are too many, the oldest is closed: a real TLS client has finished long before, and
// silent peers cannot keep others out. It is safe for concurrent use.
type handshakes struct {
	mu    sync.Mutex
	under list.List
}

// begin adds a connection; end takes the result.
func (h *handshakes) begin(nc net.Conn) *list.Element {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.under.Len() >= maxHandshakes {
		h.close()
	}
	return h.under.PushBack(nc)
}

// closeOldest makes room for another handshake. It returns false if none is under way.
func (h *handshakes) closeOldest() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.close()
}

// close closes the oldest; mu is held.
func (h *handshakes) close() bool {
	oldest := h.under.Front()
	if oldest == nil {
		return false
	}
	h.under.Remove(oldest).(net.Conn).Close()
	return true
}

// end removes a connection, if it has not been closed.
func (h *handshakes) end(e *list.Element) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.under.Remove(e)
}
