// Package outbox holds the bytes that wait for single connections: answers, replays, close
// frames and the rest of frames that a write has cut. All bytes of a connection leave through it,
// in order.
package outbox

import (
	"roomcast/gateway/hub/fifo"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
)

// Writer writes to connections without blocking. It returns how many bytes the connection
// has taken. *[loop.Loop] implements it.
type Writer interface {
	Write(id loop.ID, p []byte) int
}

// Conn is the output of one connection. It holds no pointer, so that the garbage collector never
// looks at millions of them. The owner keeps it by its slot.
type Conn struct {
	ID    loop.ID // 0 = not open
	queue uint32  // index+1 in Outbox.queues; 0 = nothing waits
	flags flags
}

type flags uint8

const (
	queued  flags = 1 << iota // has a queue
	blocked                   // takes no bytes until Unblock
	closing                   // its close frame is in the queue; nothing follows
	listed                    // in Outbox.sendQueue, the list of Next
	telling                   // its owner wants to learn when the queue has been written
)

// Busy reports whether bytes must not be written past the queue.
func (c *Conn) Busy() bool { return c.flags&(queued|blocked|closing) != 0 }

// Blocked reports whether the connection takes no bytes.
func (c *Conn) Blocked() bool { return c.flags&blocked != 0 }

// Closing reports whether the last bytes of the connection are in its queue.
func (c *Conn) Closing() bool { return c.flags&closing != 0 }

// Queued reports whether bytes wait for the connection.
func (c *Conn) Queued() bool { return c.flags&queued != 0 }

// SetClosing says that nothing follows the bytes in the queue.
func (c *Conn) SetClosing() { c.flags |= closing }

// NotifyDrained makes Drained return true once.
func (c *Conn) NotifyDrained() { c.flags |= telling }

// Drained reports whether the owner of a connection whose queue has just been written wants to
// learn of it. The owner of a closing connection always does; others call NotifyDrained each time.
func (c *Conn) Drained() bool {
	tell := c.flags&(closing|telling) != 0
	c.flags &^= telling
	return tell
}

// queue holds the bytes that wait for one connection. A blocked connection always has one.
type queue struct {
	buf   []byte
	off   int    // how much of buf has been written
	stuck uint32 // the second since which the connection has taken nothing, if it is blocked
}

// Outbox holds the queues of a loop's connections. It is owned by the loop's goroutine.
type Outbox struct {
	w         Writer
	queues    []queue
	unused    []uint32 // free indexes of queues, plus 1
	spare     [][]byte // buffers to be used again
	held      limit.Part
	sendQueue fifo.Queue[uint32] // slots of the connections that Next returns
	newly     []loop.ID          // connections that have become blocked

	Writes, Bytes uint64 // since the owner last cleared them
}

// The outbox keeps at most spareCount empty buffers of at most spareBytes for the next queues.
const (
	spareBytes = 8 << 10
	spareCount = 64
)

// New returns an empty outbox. Its buffers are taken from memory.
func New(w Writer, memory *limit.Budget) *Outbox {
	return &Outbox{w: w, held: memory.Part(limit.Queues)}
}

// Append queues bytes for a connection. The owner bounds how many.
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

// Schedule adds the connection to the list of Next, if it is not there.
func (o *Outbox) Schedule(c *Conn) {
	if c.flags&listed == 0 {
		c.flags |= listed
		o.sendQueue.Push(c.ID.Slot())
	}
}

// Pending returns how many connections Next will return.
func (o *Outbox) Pending() int { return o.sendQueue.Len() }

// Next returns the slot of the connection that has waited longest since Schedule. The owner
// then calls Begin on it.
func (o *Outbox) Next() (slot uint32) { return o.sendQueue.Pop() }

// Begin takes the connection off the list of Next.
func (c *Conn) Begin() { c.flags &^= listed }

// Due returns how many bytes wait for the connection.
func (o *Outbox) Due(c *Conn) int {
	if c.queue == 0 {
		return 0
	}
	q := &o.queues[c.queue-1]
	return len(q.buf) - q.off
}

// Flush writes the connection's queue and reports whether it is empty now. Now is the
// present second.
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

// Write writes bytes past the empty queue of a connection that is not busy, and returns how
// many it took. After a short write the owner calls Cut.
func (o *Outbox) Write(c *Conn, p []byte) int {
	n := o.w.Write(c.ID, p)
	o.Writes++
	o.Bytes += uint64(n)
	return n
}

// Cut handles a Write that was short. The rest of the frame that it cut leaves before anything
// else. Progress says that the write took some bytes.
func (o *Outbox) Cut(c *Conn, rest []byte, progress bool, now uint32) {
	o.Append(c, rest)
	o.block(c, progress, now)
}

// block marks the connection as taking no more for now.
func (o *Outbox) block(c *Conn, progress bool, now uint32) {
	if q := &o.queues[c.queue-1]; progress || q.stuck == 0 {
		q.stuck = now
	}
	c.flags |= blocked
	o.newly = append(o.newly, c.ID)
}

// TakeBlocked yields the connections that have become blocked since the last call.
func (o *Outbox) TakeBlocked(yield func(loop.ID)) {
	for i := 0; i < len(o.newly); i++ {
		yield(o.newly[i])
	}
	o.newly = o.newly[:0]
}

// Unblock marks the connection as taking bytes again. It reports whether it was blocked.
func (o *Outbox) Unblock(c *Conn) bool {
	if !c.Blocked() {
		return false
	}
	c.flags &^= blocked
	o.queues[c.queue-1].stuck = 0
	return true
}

// StuckSince returns the second since which a blocked connection has taken nothing.
func (o *Outbox) StuckSince(c *Conn) (second uint32, blocked bool) {
	if !c.Blocked() {
		return 0, false
	}
	return o.queues[c.queue-1].stuck, true
}

// Forget gives up the queue of a connection that is gone.
func (o *Outbox) Forget(c *Conn) {
	if c.queue != 0 {
		o.free(c)
	}
	*c = Conn{flags: c.flags & listed} // Next may still return it
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

// FreeSpare gives up the buffers that are kept for the next queues.
func (o *Outbox) FreeSpare() {
	clear(o.spare)
	o.spare = o.spare[:0]
}

// Settle gives the memory budget the exact size of the queues.
func (o *Outbox) Settle() { o.held.Settle() }

// Held returns the bytes of all queues, and InUse the number of queues.
func (o *Outbox) Held() int  { return o.held.Held() }
func (o *Outbox) InUse() int { return len(o.queues) - len(o.unused) }
