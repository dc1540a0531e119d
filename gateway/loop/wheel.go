package loop

import "time"

const (
	tick    = 100 * time.Millisecond
	buckets = 1024 // number of ticks that the wheel covers; later deadlines wait in the last bucket
)

// wheel stores the deadlines of all connections of a loop. It is a hashed timing wheel (Varghese
// and Lauck, 1987). The entries of a bucket form a linked list through the slab. The loop owns
// the wheel.
//
// Each frame of a peer moves the deadline of its connection, so moving must be cheap. The method
// set only records the new tick. When advance reaches the bucket of the old tick, it moves the
// connection to the bucket of the new tick. So a busy connection costs one visit per deadline,
// no more than a quiet connection.
//
// The wheel counts ticks from the creation of the loop, so a change of the system's clock does
// not affect it.
type wheel struct {
	at   uint32               // the last tick that advance has handled
	head [buckets]uint32      // 1 + slot of the first connection in the bucket; 0 = none
	some [buckets / 64]uint64 // one bit for each bucket: set if the bucket is not empty
}

// set makes t the deadline of the connection in slot.
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

// insert puts the connection in slot into the bucket of its deadline. If the wheel does not reach
// that far ahead, insert uses the bucket that is farthest ahead.
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

// remove takes the connection in slot out of its bucket. It does nothing if the connection is in
// no bucket.
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
		for b := w.at % buckets; w.head[b] != 0; { // insert never adds to this bucket
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

// next returns the time from now until the first bucket that is not empty. It returns a negative
// number if all buckets are empty.
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
