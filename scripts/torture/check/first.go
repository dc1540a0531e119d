package check

import (
	"slices"

	"roomcast/scripts/torture/history"
)

// first holds the findings of the first reading for the second.
type first struct {
	known  map[string]map[string]int64 // by room and epoch: when a member was first told the epoch
	places map[string]uint64           // by key: the seq that clients were told; 0 if they were told two
}

// learn notes the epoch and the seq that an entry contains.
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

// moved reports whether the message of a key was once stored under another seq than now: a
// fault destroyed it, and its sender sent it again.
func (f *first) moved(key string, seq uint64) bool {
	place, ok := f.places[key]
	return ok && place != seq
}

// replaced reports whether epoch, which is in the log of a room, may have replaced the epoch
// in which a message was acknowledged at time t. An ack does not name its epoch.
func (c *checker) replaced(room string, l *log, epoch string, t int64) bool {
	if slices.Index(l.epochs, epoch) > 0 {
		return true
	}
	for known := range c.first.known[room] {
		if !slices.Contains(l.epochs, known) {
			return true // the log has no record of this epoch any more
		}
	}
	// Perhaps no member was ever told the destroyed epoch. Then the fault was at work after the
	// ack and before a member was first told the log's epoch.
	told, ok := c.first.known[room][epoch]
	return !ok || c.losses.after(t, history.LossLast) || told > t && c.losses.between(t, told, history.LossEnd, history.LossAll)
}
