package loop

import (
	"container/list"
	"net"
	"sync"
)

// maxHandshakes bounds the TLS handshakes of a loop that are in progress.
const maxHandshakes = 1024

// handshakes lists the connections whose TLS handshake is in progress, the oldest first. If there
// are too many, begin closes the oldest. A real TLS client would have finished long before. So
// silent peers cannot keep other clients out. It is safe for concurrent use.
type handshakes struct {
	mu    sync.Mutex
	under list.List
}

// begin adds a connection. The caller passes the returned element to end.
func (h *handshakes) begin(nc net.Conn) *list.Element {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.under.Len() >= maxHandshakes {
		h.close()
	}
	return h.under.PushBack(nc)
}

// closeOldest closes the connection with the oldest handshake, which frees its memory. It
// returns false if no handshake is in progress.
func (h *handshakes) closeOldest() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.close()
}

// close closes the connection with the oldest handshake, if there is one. The caller holds mu.
func (h *handshakes) close() bool {
	oldest := h.under.Front()
	if oldest == nil {
		return false
	}
	h.under.Remove(oldest).(net.Conn).Close()
	return true
}

// end removes a connection from the list, unless it was closed and removed before.
func (h *handshakes) end(e *list.Element) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.under.Remove(e)
}
