package hub

import (
	"strconv"
	"strings"
	"time"

	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// conn is what a hub knows of one connection. It holds no pointer.
type conn struct {
	id    loop.ID  // 0 = not open
	one   [1]place // its only membership, if rooms is 1
	many  uint32   // index+1 in Hub.many if it has been in several rooms
	queue uint32   // index+1 in Hub.queues; 0 = nothing waits for it alone
	stuck uint32   // the second since which it has taken nothing, if blocked
	rooms uint8    // 0 or 1 while many is 0
	turn  uint8    // which of several memberships is served first
	enc   Encoding
	flags flags
}

type flags uint8

const (
	queued  flags = 1 << iota // has a queue
	blocked                   // takes no bytes until Writable
	closing                   // the close frame is in the queue; nothing follows
	listed                    // in Hub.talkers
	paging                    // some membership waits for the queue to go on from the log
	telling                   // a Drained notice has been asked for

	busy = queued | blocked | closing // not to be written from a ring
)

const slabSize = 1024

func (h *Hub) conn(slot uint32) *conn { return &h.slab[slot/slabSize][slot%slabSize] }

// live returns the connection if it is open and not closing, or nil.
func (h *Hub) live(id loop.ID) *conn {
	if c := h.known(id); c != nil && c.flags&closing == 0 {
		return c
	}
	return nil
}

func (h *Hub) known(id loop.ID) *conn {
	if slot := id.Slot(); int(slot/slabSize) < len(h.slab) {
		if c := h.conn(slot); c.id == id && id != 0 {
			return c
		}
	}
	return nil
}

// Open takes charge of a connection's output. Its events are encoded as enc.
func (h *Hub) Open(id loop.ID, enc Encoding) {
	slot := id.Slot()
	for int(slot/slabSize) >= len(h.slab) {
		h.slab = append(h.slab, new([slabSize]conn))
	}
	*h.conn(slot) = conn{id: id, enc: enc}
}

// SetEncoding changes how events are encoded for a connection that is in no room yet.
func (h *Hub) SetEncoding(id loop.ID, enc Encoding) {
	if c := h.known(id); c != nil {
		c.enc = enc
	}
}

// Gone forgets a connection.
func (h *Hub) Gone(id loop.ID) {
	c := h.known(id)
	if c == nil {
		return
	}
	for n := len(h.placesOf(c)); n > 0; n-- {
		h.removePlace(c, n-1)
	}
	h.freeQ(c)
	// It may still be in talkers; pump finds no connection then.
	*c = conn{flags: c.flags & listed}
}

// Session returns the name that stands for the connection in [bridge.Delivery].Origin.
func (h *Hub) Session(id loop.ID) string {
	return h.cfg.Name + "-" + strconv.FormatUint(uint64(id), 36)
}

func (h *Hub) ofSession(name string) (id loop.ID) {
	if rest, ok := strings.CutPrefix(name, h.cfg.Name+"-"); ok {
		n, _ := strconv.ParseUint(rest, 36, 64)
		id = loop.ID(n)
	}
	return id
}

// Send queues whole frames for one connection.
func (h *Hub) Send(id loop.ID, frames []byte) {
	c := h.live(id)
	if c == nil {
		return
	}
	q := h.queueOf(c)
	// One answer may be larger than the bound, more may not wait behind it. Where all
	// memory is in use, those who do not read must go, and nobody else.
	if due := len(q.buf) - q.off; due > 0 && due+len(frames) > h.cfg.QueueBytes || c.flags&blocked != 0 && h.full() {
		h.tell(id, Notice{Kind: Slow})
		return
	}
	h.append(q, frames)
}

// Text queues a text frame for one connection.
func (h *Hub) Text(id loop.ID, payload []byte) {
	h.scratch = wire.AppendText(h.scratch[:0], payload)
	h.Send(id, h.scratch)
}

// Close sends everything that is due, then a close frame, then a Drained notice.
// The connection is a member of no room from now on.
func (h *Hub) Close(id loop.ID, code proto.CloseCode, reason string) {
	c := h.live(id)
	if c == nil {
		return
	}
	for n := len(h.placesOf(c)); n > 0; n-- {
		h.takeDue(c, h.placesOf(c)[n-1])
		h.removePlace(c, n-1)
	}
	q := h.queueOf(c)
	h.scratch = wire.AppendClose(h.scratch[:0], code, reason)
	h.append(q, h.scratch)
	c.flags |= closing
}

// Stuck returns whether the connection takes no bytes, and since how long, in seconds.
func (h *Hub) Stuck(id loop.ID) (since time.Duration, yes bool) {
	c := h.known(id)
	if c == nil || c.flags&blocked == 0 {
		return 0, false
	}
	return time.Duration(uint32(h.conns.Now().Unix())-c.stuck) * time.Second, true
}

// TellDrained asks for a Drained notice once the connection's queue is written.
func (h *Hub) TellDrained(id loop.ID) {
	if c := h.live(id); c != nil {
		c.flags |= telling
		h.goOn(c)
	}
}

// Due reports how many bytes wait for the connection alone.
func (h *Hub) Due(id loop.ID) int {
	if c := h.known(id); c != nil && c.queue != 0 {
		q := &h.queues[c.queue-1]
		return len(q.buf) - q.off
	}
	return 0
}

// Writable goes on with a connection whose socket takes bytes again.
func (h *Hub) Writable(id loop.ID) {
	if c := h.known(id); c != nil && c.flags&blocked != 0 {
		c.flags &^= blocked
		c.stuck = 0
		h.pump(c)
	}
}

// pump writes what is due to a connection: its queue, then its rings.
func (h *Hub) pump(c *conn) {
	if c.id == 0 || c.flags&blocked != 0 {
		return
	}
	h.together(c)
	if c.flags&queued != 0 && !h.writeQueue(c) {
		return
	}
	if c.flags&(closing|telling) != 0 {
		c.flags &^= telling
		h.tell(c.id, Notice{Kind: Drained})
	}
	if c.flags&closing != 0 {
		return
	}
	list := h.placesOf(c)
	if c.flags&paging != 0 {
		c.flags &^= paging
		for _, p := range list {
			h.advance(c, p)
		}
	}
	// Another one begins each time, so that a busy room does not starve the others.
	first := int(c.turn)
	c.turn++
	for i := range list {
		if c.flags&busy != 0 {
			return
		}
		p := list[(first+i)%len(list)]
		r := h.rings[p.ring]
		if m := &r.members[p.at]; m.cursor < r.head() {
			h.serve(c, r, m, r.head())
		}
	}
}

// together moves the little that rings have for a connection behind its queue, so that
// an answer and the events beside it are one write.
func (h *Hub) together(c *conn) {
	const little = 4 << 10
	if c.flags&(queued|closing|paging) != queued {
		return
	}
	for _, p := range h.placesOf(c) {
		r := h.rings[p.ring]
		if m := &r.members[p.at]; m.cursor < r.head() && r.head()-m.cursor <= little {
			h.takeDue(c, p)
		}
	}
}

// takeDue moves what a ring has for a member to the connection's queue.
func (h *Hub) takeDue(c *conn, p place) {
	r := h.rings[p.ring]
	m := &r.members[p.at]
	if m.cursor >= r.head() {
		return
	}
	for from, to := range r.runs(m.cursor, r.head(), m.slot) {
		h.append(h.queueOf(c), r.bytes(from, to))
		h.tally.deliveries += r.count(from, to)
	}
	m.cursor = r.head()
}

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
			h.held += int64(cap(q.buf))
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
	h.held += int64(cap(q.buf) - was)
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
	h.held -= int64(cap(q.buf))
	if cap(q.buf) > 0 && cap(q.buf) <= spareBytes && len(h.spare) < spareCount {
		h.spare = append(h.spare, q.buf[:0])
	}
	*q = queue{}
	h.freeQueue = append(h.freeQueue, c.queue)
	c.queue = 0
	c.flags &^= queued
}

// block notes that the connection takes no more for now.
func (h *Hub) block(c *conn, progress bool) {
	if progress || c.stuck == 0 {
		c.stuck = uint32(h.conns.Now().Unix())
	}
	c.flags |= blocked
	if h.full() {
		h.tell(c.id, Notice{Kind: Slow})
		return
	}
	h.tell(c.id, Notice{Kind: Blocked})
}
