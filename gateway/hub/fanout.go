package hub

import (
	"time"

	"roomcast/gateway/hub/fifo"
	"roomcast/gateway/hub/outbox"
	"roomcast/gateway/hub/ring"
	"roomcast/gateway/limit"
)

// audience is the members of a room that share a format, and the ring that serves them.
type audience struct {
	ring.Ring
	room   *room
	format Format
	self   uint32 // its index in fanout.audiences

	began    time.Time // when the pass under way began, or else the last one
	dirty    bool      // in fanout.dirty, or will be after a pause
	buffered bool      // in fanout.buffered
	used     uint32    // the second of the last appended frame
}

// fanout writes rings to their members. It is owned by the loop.
type fanout struct {
	// static
	conns *conns
	out   *outbox.Outbox
	clock *clock

	// owned by the loop
	audiences  []*audience // by audience.self; nil = unused
	unused     []uint32    // free indexes of audiences
	dirty      fifo.Queue[*audience]
	buffered   []*audience // audiences whose rings have a buffer
	held       limit.Part  // bytes of rings
	deliveries uint64      // since the hub last cleared them
}

// slice is how many writes one ring gets before the next has its turn, so that a small room
// does not wait for a big one.
const slice = 16

// run writes the rings that have new bytes to their members. The rings take turns. It makes about
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

// Bounds of pause.
const (
	longPass = time.Millisecond
	maxPause = 2 * time.Millisecond
)

// pause returns how long a ring with more to send waits after a long pass: a quarter of the pass.
// Then the answers of members to this pass leave with the next one. Without the pause a busy room
// alternates between passes with one message and passes with all the answers, and needs twice as
// many writes.
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

// markDirty queues the ring for run.
func (f *fanout) markDirty(a *audience) {
	if !a.dirty {
		a.dirty = true
		f.dirty.Push(a)
	}
}

// pass writes the ring to its members: it continues the pass under way, or begins one. It makes at
// most budget writes. Events that arrive during a pass leave together in the next one. Done reports
// that no bytes are left for another pass.
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
			continue // pump serves it when it takes bytes again
		}
		f.serve(c, a, m, to)
		writes++
	}
	ended, more := a.End()
	return writes, ended && !more
}

// finish writes the whole ring to every member that takes bytes.
func (f *fanout) finish(a *audience) {
	for done := false; !done; {
		_, done = f.pass(a, len(a.Members())+1)
	}
}

// serve writes to a member what the ring has for it up to the given offset.
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

// serveRuns does the same as serve if the member does not get some of the frames.
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

// cut handles a write that ended at the offset. The rest of the frame that was cut goes to the
// connection's queue, so that the cursor stands at a frame boundary again.
func (f *fanout) cut(c *conn, a *audience, m *ring.Member, at uint64, progress bool) {
	m.Cursor = a.Edge(at)
	f.out.Cut(&c.out, a.Bytes(at, m.Cursor), progress, f.clock.second())
}

// takeDue moves what the ring has for a member to the connection's queue.
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

// coalesce moves bytes from the rings behind the queue of a connection, if they are few. Then an
// answer and the events beside it are one write.
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

// serveMember writes to a connection what one of its rings has for it.
func (f *fanout) serveMember(c *conn, m membership) {
	a := f.audiences[m.audience]
	if member := &a.Members()[m.pos]; member.Cursor < a.Head() {
		f.serve(c, a, member, a.Head())
	}
}

// add makes the audience of a format in a room.
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

// drop forgets an audience without members.
func (f *fanout) drop(a *audience) {
	f.free(a)
	f.audiences[a.self] = nil
	f.unused = append(f.unused, a.self)
}

func (f *fanout) free(a *audience) {
	f.held.Add(-a.Size())
	a.Free()
}

// resize gives the ring a buffer of another size.
func (f *fanout) resize(a *audience, size int) {
	was := a.Size()
	a.Resize(size)
	f.held.Add(a.Size() - was)
	if !a.buffered {
		a.buffered = true
		f.buffered = append(f.buffered, a)
	}
}

// sweep frees the buffers of rings that no member needs and that have been quiet for more than the
// given seconds. It reports whether other rings still have buffers.
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
