package loop

import (
	"container/list"
	"net"
	"sync"
)

// maxHandshakes bounds the TLS handshakes that a loop has in progress.
const maxHandshakes = 1024

// handshakes are the connections whose TLS handshake is in progress, the oldest first. If
// there are too many, begin closes the oldest: a real TLS client has finished long before. So
// silent peers cannot keep others out. It is safe for concurrent use.
type handshakes struct {
	mu    sync.Mutex
	under list.List
}

// begin adds a connection. The caller passes the result to end.
func (h *handshakes) begin(nc net.Conn) *list.Element {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.under.Len() >= maxHandshakes {
		h.close()
	}
	return h.under.PushBack(nc)
}

// closeOldest frees the memory of the oldest handshake. It returns false if there is none.
func (h *handshakes) closeOldest() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.close()
}

// close closes the oldest connection. The caller holds mu.
func (h *handshakes) close() bool {
	oldest := h.under.Front()
	if oldest == nil {
		return false
	}
	h.under.Remove(oldest).(net.Conn).Close()
	return true
}

// end removes a connection that begin has not closed.
func (h *handshakes) end(e *list.Element) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.under.Remove(e)
}
