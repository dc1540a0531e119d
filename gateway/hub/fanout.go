package hub

import (
	"time"

	"roomcast/gateway/hub/fifo"
	"roomcast/gateway/hub/outbox"
	"roomcast/gateway/hub/ring"
	"roomcast/gateway/limit"
)

// audience contains the members of a room that have the same format, and the ring that serves
// them.
type audience struct {
	ring.Ring
	room   *room
	format Format
	self   uint32 // index in fanout.audiences

	began    time.Time // when the present or the last pass began
	dirty    bool      // the ring is in fanout.dirty, or a timer will put it there
	buffered bool      // the ring is in fanout.buffered
	used     uint32    // the second in which the last frame was appended
}

// fanout writes the frames of rings to the members. The loop owns it.
type fanout struct {
	// static
	conns *conns
	out   *outbox.Outbox
	clock *clock

	// owned by the loop
	audiences  []*audience // indexed by audience.self; nil = free
	unused     []uint32    // free indexes of audiences
	dirty      fifo.Queue[*audience]
	buffered   []*audience // audiences whose rings have a buffer
	held       limit.Part  // bytes of all rings in the memory budget
	deliveries uint64      // frames written since the hub last set it to 0
}

// slice is how many writes one ring may make before the next ring has its turn. So a small room
// does not wait for a big room.
const slice = 16

// run writes rings with new bytes to their members, one ring after another. It makes roughly
// budget writes at most.
func (f *fanout) run(budget int) {
	for budget > 0 && f.dirty.Len() > 0 {
		a := f.dirty.Pop()
		n, done := f.pass(a, min(slice, budget))
		budget -= max(n, 1)
		if done {
			a.dirty = false
		} else if pause := f.pause(a); pause > 0 {
			f.clock.later(pause, func() { f.dirty.Push(a) })
		} else {
			f.dirty.Push(a)
		}
	}
}

// Bounds for the method pause.
const (
	longPass = time.Millisecond
	maxPause = 2 * time.Millisecond
)

// pause returns how long a ring with new bytes waits before its next pass. After a long pass it
// waits a quarter of the time that the pass took. In this time, members answer the events of the
// pass, and their answers leave together in the next pass. Without the pause, a busy room
// alternates between a pass with one message and a pass with all the answers. This needs twice
// as many writes.
func (f *fanout) pause(a *audience) time.Duration {
	if a.Passing() {
		return 0
	}
	took := f.clock.now().Sub(a.began)
	if took < longPass {
		return 0
	}
	return min(took/4, maxPause)
}

// markDirty makes run write the ring.
func (f *fanout) markDirty(a *audience) {
	if !a.dirty {
		a.dirty = true
		f.dirty.Push(a)
	}
}

// pass writes the ring's frames to its members. It continues the present pass, or begins a new one.
// It makes at most budget writes. Events that arrive during a pass are written together in the next
// pass. The result done reports that the pass has ended and that there are no bytes for another
// pass.
func (f *fanout) pass(a *audience, budget int) (writes int, done bool) {
	if a.Begin() {
		a.began = f.clock.now()
	}
	for steps := 64 * budget; writes < budget; {
		m, to := a.Next(&steps)
		if m == nil {
			break
		}
		c := f.conns.at(m.Slot)
		if c.out.Busy() {
			continue // pump serves this connection when it accepts bytes again
		}
		f.serve(c, a, m, to)
		writes++
	}
	ended, more := a.End()
	return writes, ended && !more
}

// finish writes all frames of the ring to every member whose connection accepts bytes.
func (f *fanout) finish(a *audience) {
	for done := false; !done; {
		_, done = f.pass(a, len(a.Members())+1)
	}
}

// serve writes to a member the frames between the member's cursor and the given offset.
func (f *fanout) serve(c *conn, a *audience, m *ring.Member, to uint64) {
	if a.Skips(m.Cursor) {
		f.serveRuns(c, a, m, to)
		return
	}
	from := m.Cursor
	n := f.out.Write(&c.out, a.Bytes(from, to))
	f.deliveries += a.Count(from, to)
	m.Cursor = to
	if n < int(to-from) {
		f.cut(c, a, m, from+uint64(n), n > 0)
	}
}

// serveRuns is like serve, for a member that must not receive some of the frames.
func (f *fanout) serveRuns(c *conn, a *audience, m *ring.Member, upTo uint64) {
	for from, to := range a.Runs(m.Cursor, upTo, m.Slot) {
		n := f.out.Write(&c.out, a.Bytes(from, to))
		f.deliveries += a.Count(from, to)
		if n < int(to-from) {
			f.cut(c, a, m, from+uint64(n), n > 0)
			return
		}
	}
	m.Cursor = upTo
}

// cut handles a write that ended at the given offset, in the middle of a frame. The rest of this
// frame goes to the connection's queue. So the cursor is at the beginning of a frame again.
func (f *fanout) cut(c *conn, a *audience, m *ring.Member, at uint64, progress bool) {
	m.Cursor = a.Edge(at)
	f.out.Cut(&c.out, a.Bytes(at, m.Cursor), progress, f.clock.second())
}

// takeDue moves frames from the ring to the queue of a member's connection. These are all frames
// that the member has not received yet.
func (f *fanout) takeDue(c *conn, m membership) {
	a := f.audiences[m.audience]
	member := &a.Members()[m.pos]
	if member.Cursor >= a.Head() {
		return
	}
	for from, to := range a.Runs(member.Cursor, a.Head(), member.Slot) {
		f.out.Append(&c.out, a.Bytes(from, to))
		f.deliveries += a.Count(from, to)
	}
	member.Cursor = a.Head()
}

// If a connection has a queue and lacks only a few bytes of a ring, coalesce moves these bytes to
// the end of the queue. So an answer and the events after it leave in a single write.
func (f *fanout) coalesce(c *conn) {
	const few = 4 << 10
	if !c.out.Queued() || c.out.Closing() || c.flags&paging != 0 {
		return
	}
	for _, m := range f.conns.memberships(c) {
		a := f.audiences[m.audience]
		if cursor := a.Members()[m.pos].Cursor; cursor < a.Head() && a.Head()-cursor <= few {
			f.takeDue(c, m)
		}
	}
}

// serveMember writes to a connection the frames that one of its rings has for it.
func (f *fanout) serveMember(c *conn, m membership) {
	a := f.audiences[m.audience]
	if member := &a.Members()[m.pos]; member.Cursor < a.Head() {
		f.serve(c, a, member, a.Head())
	}
}

// add makes an audience for the members of a room with the given format.
func (f *fanout) add(rm *room, format Format) *audience {
	a := &audience{room: rm, format: format}
	if n := len(f.unused); n > 0 {
		a.self = f.unused[n-1]
		f.unused = f.unused[:n-1]
		f.audiences[a.self] = a
	} else {
		a.self = uint32(len(f.audiences))
		f.audiences = append(f.audiences, a)
	}
	rm.audiences = append(rm.audiences, a)
	return a
}

// drop deletes an audience that has no members.
func (f *fanout) drop(a *audience) {
	f.free(a)
	f.audiences[a.self] = nil
	f.unused = append(f.unused, a.self)
}

func (f *fanout) free(a *audience) {
	f.held.Add(-a.Size())
	a.Free()
}

// resize gives the ring a buffer of the given size.
func (f *fanout) resize(a *audience, size int) {
	was := a.Size()
	a.Resize(size)
	f.held.Add(a.Size() - was)
	if !a.buffered {
		a.buffered = true
		f.buffered = append(f.buffered, a)
	}
}

// sweep frees the buffers of quiet rings. A ring is quiet if all members have received its frames,
// and if no frame was appended for the given number of seconds. It reports whether other rings
// still have buffers.
func (f *fanout) sweep(now, quiet uint32) (some bool) {
	keep := f.buffered[:0]
	for _, a := range f.buffered {
		if len(a.Members()) > 0 && (now-a.used <= quiet || a.Needed() < a.Head()) {
			keep = append(keep, a)
			continue
		}
		a.buffered = false
		f.free(a)
	}
	clear(f.buffered[len(keep):])
	f.buffered = keep
	f.held.Settle()
	return len(keep) > 0
}
