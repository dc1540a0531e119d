package check

import (
	"slices"

	"roomcast/scripts/torture/history"
)

// first contains what the first reading found and the second reading needs.
type first struct {
	known  map[string]map[string]int64 // by room and epoch: when a member first received the epoch
	places map[string]uint64           // by key: the seq that clients received for the message; 0 = they received two different seqs
}

// learn remembers the epoch and the seq that an entry contains.
func (f *first) learn(e history.Entry) {
	switch e.Op {
	case history.OK, history.Recv, history.PageRecv:
		if place, ok := f.places[e.Key]; ok && place != e.Seq {
			f.places[e.Key] = 0
		} else {
			f.places[e.Key] = e.Seq
		}
	}
	if e.Epoch != "" {
		if f.known[e.Room] == nil {
			f.known[e.Room] = map[string]int64{}
		}
		if _, ok := f.known[e.Room][e.Epoch]; !ok {
			f.known[e.Room][e.Epoch] = e.T
		}
	}
}

// moved reports whether the message with the key was once stored under another seq than now. This
// happens if a fault has destroyed the message and the sender has sent it again.
func (f *first) moved(key string, seq uint64) bool {
	place, ok := f.places[key]
	return ok && place != seq
}

// replaced is about a message that was acknowledged at time t. It reports whether the given epoch
// of the log may have replaced the epoch that the room had at that time. An ack names no epoch, so
// replaced infers it from the epochs that members have received.
func (c *checker) replaced(room string, l *log, epoch string, t int64) bool {
	if slices.Index(l.epochs, epoch) > 0 {
		return true
	}
	for known := range c.first.known[room] {
		if !slices.Contains(l.epochs, known) {
			return true // members have received this epoch, but the log no longer has a record of it
		}
	}
	// Perhaps no member ever received the destroyed epoch. Then the fault was at work after the
	// ack, and before a member first received the epoch that the log has now.
	told, ok := c.first.known[room][epoch]
	return !ok || c.losses.after(t, history.LossLast) || told > t && c.losses.between(t, told, history.LossEnd, history.LossAll)
}
