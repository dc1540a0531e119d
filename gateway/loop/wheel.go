package loop

import "time"

const (
	tick    = 100 * time.Millisecond
	buckets = 1024 // ticks ahead that the wheel reaches; later deadlines wait in its last bucket
)

// wheel holds the deadlines of all connections of a loop. It is a hashed timing wheel
// (Varghese and Lauck, 1987) whose lists run through the slab. The loop owns it.
//
// Each frame of a peer delays its deadline, so that must be cheap. Set only records the new
// tick, and advance moves the entry when its bucket is due. A busy connection costs one visit
// for each deadline, as a quiet one does.
//
// It measures the time since the loop was made. A change of the system's clock does not
// affect that.
type wheel struct {
	at   uint32               // the last tick that advance has handled
	head [buckets]uint32      // 1 + slot of the first one in the bucket; 0 = none
	some [buckets / 64]uint64 // one bit for each bucket: it is not empty
}

// set gives a slot the deadline t.
func (w *wheel) set(s *slab, slot uint32, t time.Duration) {
	c := s.at(slot)
	c.due = w.at + 1
	if t > time.Duration(w.at)*tick {
		c.due = max(c.due, uint32((t+tick-1)/tick))
	}
	if c.queued != 0 && c.queued <= c.due {
		return
	}
	w.remove(s, slot)
	w.insert(s, slot)
}

// insert puts a slot into the bucket of its deadline, or into the last bucket.
func (w *wheel) insert(s *slab, slot uint32) {
	c := s.at(slot)
	c.queued = min(c.due, w.at+buckets-1)
	b := c.queued % buckets
	c.prev, c.next = 0, w.head[b]
	if c.next != 0 {
		s.at(c.next - 1).prev = slot + 1
	}
	w.head[b] = slot + 1
	w.some[b/64] |= 1 << (b % 64)
}

// remove takes a slot out of its bucket, if it is in any.
func (w *wheel) remove(s *slab, slot uint32) {
	c := s.at(slot)
	if c.queued == 0 {
		return
	}
	if c.next != 0 {
		s.at(c.next - 1).prev = c.prev
	}
	b := c.queued % buckets
	if c.prev != 0 {
		s.at(c.prev - 1).next = c.next
	} else if w.head[b] = c.next; c.next == 0 {
		w.some[b/64] &^= 1 << (b % 64)
	}
	c.queued, c.next, c.prev = 0, 0, 0
}

// advance calls the handler's Due for every deadline that has passed.
func (w *wheel) advance(l *Loop) {
	for now := uint32(l.Elapsed() / tick); w.at < now; {
		w.at++
		for b := w.at % buckets; w.head[b] != 0; { // insert never uses this bucket
			slot := w.head[b] - 1
			c := l.conns.at(slot)
			w.remove(&l.conns, slot)
			switch {
			case !c.open:
			case c.due > w.at:
				w.insert(&l.conns, slot)
			default:
				c.due = 0
				l.handler.Due(l.conns.id(slot))
			}
		}
	}
}

// next returns the time from now to the next bucket with an entry. It is negative if all
// buckets are empty.
func (w *wheel) next(now time.Duration) time.Duration {
	for i := uint32(1); i < buckets; {
		b := (w.at + i) % buckets
		if w.some[b/64] == 0 {
			i += 64 - b%64
			continue
		}
		if w.some[b/64]&(1<<(b%64)) != 0 {
			return max(0, time.Duration(w.at+i)*tick-now)
		}
		i++
	}
	return -1
}
