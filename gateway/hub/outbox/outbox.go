// Package outbox keeps the bytes that wait for a single connection: answers, replays and close
// frames. If a write takes only a part of a frame, the outbox keeps the rest. All bytes of a
// connection go through its outbox, which keeps them in order.
package outbox

import (
	"roomcast/gateway/hub/fifo"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
)

// Writer writes to connections without blocking. Write returns how many bytes the connection has
// accepted. *[loop.Loop] implements it.
type Writer interface {
	Write(id loop.ID, p []byte) int
}

// Conn is the output state of one connection. A gateway may have millions of them. They contain no
// pointer, so the garbage collector need not scan them. The owner stores each under its
// connection's slot.
type Conn struct {
	ID    loop.ID // 0 = not open
	queue uint32  // 1 + index in Outbox.queues; 0 = the connection has no queue
	flags flags
}

type flags uint8

const (
	queued  flags = 1 << iota // the connection has a queue
	blocked                   // the connection accepts no bytes until Unblock
	closing                   // the close frame is in the queue, and no more bytes may follow
	listed                    // the connection is in Outbox.sendQueue
	telling                   // the owner has asked to be notified when the queue has been written
)

// Busy reports whether new bytes must go to the queue instead of the socket.
func (c *Conn) Busy() bool { return c.flags&(queued|blocked|closing) != 0 }

// Blocked reports whether the connection accepts no bytes.
func (c *Conn) Blocked() bool { return c.flags&blocked != 0 }

// Closing reports whether the queue contains the last bytes of the connection.
func (c *Conn) Closing() bool { return c.flags&closing != 0 }

// Queued reports whether bytes wait for the connection.
func (c *Conn) Queued() bool { return c.flags&queued != 0 }

// SetClosing marks the bytes in the queue as the last bytes of the connection.
func (c *Conn) SetClosing() { c.flags |= closing }

// NotifyDrained makes the next call of Drained return true.
func (c *Conn) NotifyDrained() { c.flags |= telling }

// Drained reports whether the owner wants a notification now that the queue has been written. It
// returns true for a closing connection, and once after each call of NotifyDrained.
func (c *Conn) Drained() bool {
	tell := c.flags&(closing|telling) != 0
	c.flags &^= telling
	return tell
}

// queue contains the bytes that wait for one connection. A blocked connection always has a
// queue.
type queue struct {
	buf   []byte
	off   int    // number of bytes of buf that have been written
	stuck uint32 // if the connection is blocked: the second in which it last accepted bytes
}

// Outbox contains the queues of a loop's connections. The loop's goroutine owns it.
type Outbox struct {
	w         Writer
	memory    *limit.Budget
	bound     int // the most bytes that may wait for a blocked connection; see Offer
	queues    []queue
	unused    []uint32 // 1 + index, for the free entries of queues
	spare     [][]byte // buffers for reuse
	held      limit.Part
	sendQueue fifo.Queue[uint32] // slots of the connections that Schedule has added and Next has not returned yet
	newly     []loop.ID          // connections that have become blocked since the last TakeBlocked

	Writes, Bytes uint64 // counters, which the owner reads and sets to 0
}

// The outbox keeps at most spareCount buffers, of at most spareBytes each, for later queues.
const (
	spareBytes = 8 << 10
	spareCount = 64
)

// New returns an empty outbox. The memory budget counts its buffers. The parameter bound is the
// most bytes that may wait for a blocked connection; see [Outbox.Offer].
func New(w Writer, memory *limit.Budget, bound int) *Outbox {
	return &Outbox{w: w, memory: memory, bound: bound, held: memory.Part(limit.Queues)}
}

// Offer adds whole frames to the connection's queue. A connection that is not blocked takes any
// number of bytes. If the connection is blocked, Offer returns false when the queue would exceed
// the bound, and when the memory budget is full. The bound does not apply to an empty queue, so
// that any single answer fits.
func (o *Outbox) Offer(c *Conn, frames []byte) bool {
	due := o.Due(c)
	if c.Blocked() && (due > 0 && due+len(frames) > o.bound || o.memory.Full()) {
		return false
	}
	o.Append(c, frames)
	return true
}

// Append adds bytes to the connection's queue. The caller must bound how many bytes wait.
func (o *Outbox) Append(c *Conn, p []byte) {
	q := o.queueOf(c)
	was := cap(q.buf)
	q.buf = append(q.buf, p...)
	o.held.Add(cap(q.buf) - was)
}

func (o *Outbox) queueOf(c *Conn) *queue {
	if c.queue == 0 {
		if n := len(o.unused); n > 0 {
			c.queue = o.unused[n-1]
			o.unused = o.unused[:n-1]
		} else {
			o.queues = append(o.queues, queue{})
			c.queue = uint32(len(o.queues))
		}
		if n := len(o.spare); n > 0 {
			q := &o.queues[c.queue-1]
			q.buf = o.spare[n-1]
			o.spare = o.spare[:n-1]
			o.held.Add(cap(q.buf))
		}
		c.flags |= queued
	}
	o.Schedule(c)
	return &o.queues[c.queue-1]
}

// Schedule adds the connection to the list of connections that Next returns. A connection is in
// this list at most once.
func (o *Outbox) Schedule(c *Conn) {
	if c.flags&listed == 0 {
		c.flags |= listed
		o.sendQueue.Push(c.ID.Slot())
	}
}

// Pending returns the number of connections that Next can return.
func (o *Outbox) Pending() int { return o.sendQueue.Len() }

// Next removes the first connection from the list and returns its slot. Then the owner must call
// Begin on the Conn in this slot.
func (o *Outbox) Next() (slot uint32) { return o.sendQueue.Pop() }

// Begin records that Next has removed the connection from the list.
func (c *Conn) Begin() { c.flags &^= listed }

// Due returns the number of bytes in the connection's queue.
func (o *Outbox) Due(c *Conn) int {
	if c.queue == 0 {
		return 0
	}
	q := &o.queues[c.queue-1]
	return len(q.buf) - q.off
}

// Flush writes the connection's queue and reports whether the queue is empty now. The parameter
// now is the current time in seconds.
func (o *Outbox) Flush(c *Conn, now uint32) (empty bool) {
	if c.queue == 0 {
		return true
	}
	q := &o.queues[c.queue-1]
	due := q.buf[q.off:]
	n := 0
	if len(due) > 0 {
		n = o.Write(c, due)
	}
	q.off += n
	if n < len(due) {
		o.block(c, n > 0, now)
		if q.off >= spareBytes {
			q.buf = q.buf[:copy(q.buf, q.buf[q.off:])]
			q.off = 0
		}
		return false
	}
	o.free(c)
	return true
}

// Write writes p to a connection that is not busy, and returns how many bytes the connection has
// accepted. If this is less than len(p), the caller must call Cut.
func (o *Outbox) Write(c *Conn, p []byte) int {
	n := o.w.Write(c.ID, p)
	o.Writes++
	o.Bytes += uint64(n)
	return n
}

// Cut handles a Write that took only a part of its bytes, and so ended in the middle of a frame.
// The parameter rest is the rest of this frame. Cut puts it into the queue, before all later bytes.
// The parameter progress says whether the write took any bytes.
func (o *Outbox) Cut(c *Conn, rest []byte, progress bool, now uint32) {
	o.Append(c, rest)
	o.block(c, progress, now)
}

// block records that the connection accepts no bytes now.
func (o *Outbox) block(c *Conn, progress bool, now uint32) {
	if q := &o.queues[c.queue-1]; progress || q.stuck == 0 {
		q.stuck = now
	}
	c.flags |= blocked
	o.newly = append(o.newly, c.ID)
}

// TakeBlocked calls yield for each connection that has become blocked since its last call.
func (o *Outbox) TakeBlocked(yield func(loop.ID)) {
	for i := 0; i < len(o.newly); i++ {
		yield(o.newly[i])
	}
	o.newly = o.newly[:0]
}

// Unblock records that the connection accepts bytes again. It reports whether the connection was
// blocked.
func (o *Outbox) Unblock(c *Conn) bool {
	if !c.Blocked() {
		return false
	}
	c.flags &^= blocked
	o.queues[c.queue-1].stuck = 0
	return true
}

// StuckSince returns the second in which a blocked connection last accepted bytes.
func (o *Outbox) StuckSince(c *Conn) (second uint32, blocked bool) {
	if !c.Blocked() {
		return 0, false
	}
	return o.queues[c.queue-1].stuck, true
}

// Forget frees the queue of a connection that has ended.
func (o *Outbox) Forget(c *Conn) {
	if c.queue != 0 {
		o.free(c)
	}
	*c = Conn{flags: c.flags & listed} // Next may still return its slot
}

func (o *Outbox) free(c *Conn) {
	q := &o.queues[c.queue-1]
	o.held.Add(-cap(q.buf))
	if cap(q.buf) > 0 && cap(q.buf) <= spareBytes && len(o.spare) < spareCount {
		o.spare = append(o.spare, q.buf[:0])
	}
	*q = queue{}
	o.unused = append(o.unused, c.queue)
	c.queue = 0
	c.flags &^= queued
}

// FreeSpare frees the buffers that are kept for later queues.
func (o *Outbox) FreeSpare() {
	clear(o.spare)
	o.spare = o.spare[:0]
}

// Settle tells the memory budget the exact size of the queues.
func (o *Outbox) Settle() { o.held.Settle() }

// Held returns the bytes of all queues. InUse returns the number of queues.
func (o *Outbox) Held() int  { return o.held.Held() }
func (o *Outbox) InUse() int { return len(o.queues) - len(o.unused) }
