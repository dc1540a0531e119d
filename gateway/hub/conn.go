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
	holding                   // one of its catch-ups has a page, or waits for one

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

// Session returns the name that stands for the connection in [follow.Delivery].Origin.
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
	// A connection that takes bytes is not slow, however much came for it in one turn: what
	// it asks for is bounded by whoever reads it. One answer may be larger than the bound,
	// more may not wait behind it.
	if due := len(q.buf) - q.off; c.flags&blocked != 0 && (due > 0 && due+len(frames) > h.cfg.QueueBytes || h.full()) {
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
	return time.Duration(h.seconds()-c.stuck) * time.Second, true
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
	// Another room begins each time, so that a busy one does not starve the others.
	list, first := h.placesOf(c), int(c.turn)
	c.turn++
	if c.flags&paging != 0 {
		c.flags &^= paging
		for i := range list {
			h.advance(c, list[(first+i)%len(list)])
		}
	}
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

// block notes that the connection takes no more for now.
func (h *Hub) block(c *conn, progress bool) {
	if progress || c.stuck == 0 {
		c.stuck = h.seconds()
	}
	c.flags |= blocked
	if c.flags&holding != 0 {
		h.letPageGo(c)
	}
	if h.full() {
		h.tell(c.id, Notice{Kind: Slow})
		return
	}
	h.tell(c.id, Notice{Kind: Blocked})
}
