package hub

// queue is what waits for one connection alone.
type queue struct {
	buf []byte
	off int // how much of buf has been written
}

// spareBytes is the largest buffer kept for the next queue, spareCount how many.
const (
	spareBytes = 8 << 10
	spareCount = 64
)

// queueOf returns the connection's queue, which is about to be filled.
func (h *Hub) queueOf(c *conn) *queue {
	if c.queue == 0 {
		if n := len(h.freeQueue); n > 0 {
			c.queue = h.freeQueue[n-1]
			h.freeQueue = h.freeQueue[:n-1]
		} else {
			h.queues = append(h.queues, queue{})
			c.queue = uint32(len(h.queues))
		}
		if n := len(h.spare); n > 0 {
			q := &h.queues[c.queue-1]
			q.buf = h.spare[n-1]
			h.spare = h.spare[:n-1]
			h.due.Add(cap(q.buf))
		}
		c.flags |= queued
	}
	if c.flags&listed == 0 {
		c.flags |= listed
		h.talkers.push(c.id.Slot())
	}
	return &h.queues[c.queue-1]
}

func (h *Hub) append(q *queue, p []byte) {
	was := cap(q.buf)
	q.buf = append(q.buf, p...)
	h.due.Add(cap(q.buf) - was)
}

// writeQueue reports whether the queue is empty now.
func (h *Hub) writeQueue(c *conn) bool {
	q := &h.queues[c.queue-1]
	due := q.buf[q.off:]
	n := h.conns.Write(c.id, due)
	h.wrote(n)
	q.off += n
	if n < len(due) {
		h.block(c, n > 0)
		if q.off >= spareBytes {
			q.buf = q.buf[:copy(q.buf, q.buf[q.off:])]
			q.off = 0
		}
		return false
	}
	h.freeQ(c)
	return true
}

func (h *Hub) freeQ(c *conn) {
	if c.queue == 0 {
		return
	}
	q := &h.queues[c.queue-1]
	h.due.Add(-cap(q.buf))
	if cap(q.buf) > 0 && cap(q.buf) <= spareBytes && len(h.spare) < spareCount {
		h.spare = append(h.spare, q.buf[:0])
	}
	*q = queue{}
	h.freeQueue = append(h.freeQueue, c.queue)
	c.queue = 0
	c.flags &^= queued
}
