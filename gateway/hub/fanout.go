package hub

import (
	"iter"
	"time"
)

// slice is how many writes one ring gets before the next has its turn, so that a small
// room does not wait for a big one.
const slice = 16

// fanOut writes rings to their members, in turn.
func (h *Hub) fanOut(budget int) {
	for budget > 0 && h.dirty.len() > 0 {
		r := h.dirty.pop()
		n, done := h.pass(r, min(slice, budget))
		budget -= max(n, 1)
		if done {
			r.dirty = false
		} else if pause := h.pause(r); pause > 0 {
			h.after(pause, func() { h.Post(func() { h.dirty.push(r) }) })
		} else {
			h.dirty.push(r)
		}
	}
}

// Bounds of pause.
const (
	longPass = time.Millisecond
	maxPause = 2 * time.Millisecond
)

// pause returns how long a ring waits that has just ended a long pass and has more to
// send: a quarter of what the pass took. Those who answer what they have just been sent
// are then in the next pass and not in the one after it. Without it a busy room falls
// into turns of one message and of all the others, and writes twice as often.
func (h *Hub) pause(r *ring) time.Duration {
	if r.pos > 0 {
		return 0
	}
	took := h.conns.Now().Sub(r.began)
	if took < longPass {
		return 0
	}
	return min(took/4, maxPause)
}

// soil puts the ring in line for fanOut.
func (h *Hub) soil(r *ring) {
	if !r.dirty {
		r.dirty = true
		h.dirty.push(r)
	}
}

// pass goes on with the ring's pass over its members, or begins one, for at most
// budget writes. What comes in before it ends is for the next one: the longer a pass
// takes, the more goes out in each write. It reports whether there is nothing left to
// begin another with.
func (h *Hub) pass(r *ring, budget int) (writes int, done bool) {
	if r.pos == 0 {
		r.to, r.began = r.head(), h.conns.Now()
	}
	// A member that is passed by costs far less than one that is written.
	for steps := 0; r.pos < len(r.members) && writes < budget && steps < 64*budget; steps++ {
		m := &r.members[r.pos]
		r.pos++
		if m.cursor >= r.to {
			continue
		}
		c := h.conn(m.slot)
		if c.flags&busy != 0 {
			continue // its own pump brings it here
		}
		h.serve(c, r, m, r.to)
		writes++
	}
	if r.pos < len(r.members) {
		return writes, false
	}
	r.pos = 0
	return writes, r.to == r.head()
}

// finish brings the ring to everybody who takes it, at once.
func (h *Hub) finish(r *ring) {
	for done := false; !done; {
		_, done = h.pass(r, len(r.members)+1)
	}
}

// serve writes a member what the ring has for it up to the given offset.
func (h *Hub) serve(c *conn, r *ring, m *member, to uint64) {
	if m.cursor < r.shy {
		h.serveRuns(c, r, m, to)
		return
	}
	from := m.cursor
	n := h.conns.Write(c.id, r.bytes(from, to))
	h.wrote(n)
	h.tally.deliveries += r.count(from, to)
	m.cursor = to
	if n < int(to-from) {
		h.cut(c, r, m, from+uint64(n), n > 0)
	}
}

// serveRuns is serve where some frames are not for this member.
func (h *Hub) serveRuns(c *conn, r *ring, m *member, upTo uint64) {
	for from, to := range r.runs(m.cursor, upTo, m.slot) {
		n := h.conns.Write(c.id, r.bytes(from, to))
		h.wrote(n)
		h.tally.deliveries += r.count(from, to)
		if n < int(to-from) {
			h.cut(c, r, m, from+uint64(n), n > 0)
			return
		}
	}
	m.cursor = upTo
}

// cut notes that a write ended at the offset. The rest of a frame that was begun goes
// to the connection's queue, so that the cursor stands at a frame again.
func (h *Hub) cut(c *conn, r *ring, m *member, at uint64, progress bool) {
	m.cursor = r.head()
	if i := r.index(at); i < len(r.frames) {
		m.cursor = r.frames[i].at
	}
	if rest := r.bytes(at, m.cursor); len(rest) > 0 {
		h.append(h.queueOf(c), rest)
	}
	h.block(c, progress)
}

func (h *Hub) wrote(n int) {
	h.tally.writes++
	h.tally.bytes += uint64(n)
}

// runs yields the stretches between two offsets that are for the connection in the
// given slot.
func (r *ring) runs(from, to uint64, slot uint32) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for i := r.index(from); from < min(to, r.shy) && i < len(r.frames) && r.frames[i].at < to; i++ {
			if r.frames[i].skip != slot+1 {
				continue
			}
			if at := r.frames[i].at; at > from && !yield(from, at) {
				return
			}
			from = r.end(i)
		}
		if from < to {
			yield(from, to)
		}
	}
}

// count returns how many frames stand between two offsets. Nearly always it is asked
// the same again.
func (r *ring) count(from, to uint64) uint64 {
	if r.counted.from != from || r.counted.to != to {
		r.counted.from, r.counted.to = from, to
		r.counted.n = uint64(r.index(to) - r.index(from))
	}
	return r.counted.n
}
