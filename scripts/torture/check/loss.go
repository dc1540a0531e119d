package check

import (
	"math"
	"slices"
	"time"

	"roomcast/scripts/torture/history"
)

// loss is a fault that may destroy records.
type loss struct {
	key      string
	what     history.Loss
	from, to int64
}

const (
	// lossSlack is how long after a fault clients may still receive acks of records that the fault
	// destroyed.
	lossSlack = int64(2 * time.Second)
	// shownSlack is how long after a fault a gateway may still send members records that the fault
	// destroyed. The reason is that the gateway may have been paused.
	shownSlack = int64(45 * time.Second)
	// readSlack is how long after a fault an application may still receive records that the fault
	// destroyed. It reads them from a stream of its own, which keeps them, and it may be behind.
	readSlack = int64(5 * time.Minute)
)

// losses are the faults of a run that may destroy records.
type losses []loss

// learn is called in the first reading. It remembers when a fault begins and ends.
func (list *losses) learn(e history.Entry) {
	switch {
	case e.Op == history.Fault && e.Loss != "":
		*list = append(*list, loss{e.Key, e.Loss, e.T, math.MaxInt64 - lossSlack})
	case e.Op == history.Over:
		for i := range *list {
			if l := &(*list)[i]; l.key == e.Key {
				l.to = e.T
			}
		}
	}
}

// after looks for faults that may cause one of the given losses. It reports whether one of them
// ended after t.
func (list losses) after(t int64, words ...history.Loss) bool {
	for _, l := range list {
		if l.to+lossSlack >= t && l.what.Any(words...) {
			return true
		}
	}
	return false
}

// any reports whether a fault of the run may destroy records.
func (list losses) any() bool {
	return slices.ContainsFunc(list, func(l loss) bool { return l.what != "" })
}

// between looks for faults that may cause one of the given losses. It reports whether one of them
// was at work between two times.
func (list losses) between(from, to int64, words ...history.Loss) bool {
	for _, l := range list {
		if l.from <= to && l.to+lossSlack >= from && l.what.Any(words...) {
			return true
		}
	}
	return false
}

// era counts the faults that may destroy acknowledged records and that ended before t. It returns
// -1 if such a fault is at work at t. The seqs of two events can be compared only if both events
// have the same era, and the era is not -1.
func (list losses) era(t int64) (n int) {
	for _, l := range list {
		switch {
		case l.what == history.LossShown: // this loss destroys no acknowledged record
		case l.from <= t && t <= l.to+lossSlack:
			return -1
		case l.to < t:
			n++
		}
	}
	return n
}

// sameEra reports whether the seqs of events at two times can be compared.
func (list losses) sameEra(a, b int64) bool { return list.era(a) == list.era(b) && list.era(a) >= 0 }

// lacked reports whether all events from, from+1, …, to may have been missing in the log at time t.
// This is so if they are all missing now, or if a fault after t may have replaced them.
func (list losses) lacked(l *log, from, to uint64, t int64) bool {
	return l.lacks(from, to) || list.after(t, history.LossEnd, history.LossAll)
}

// mayLack reports whether faults explain that a page lacks the events from, from+1, …, to. The page
// was read at time t.
func (list losses) mayLack(l *log, from, to uint64, t int64) bool {
	any := []history.Loss{history.LossEnd, history.LossAll, history.LossHole, history.LossStart}
	return list.lacked(l, from, to, t) && list.between(0, t, any...) || list.between(0, t, history.LossEnd, history.LossAll, history.LossShown)
}

// destroyed is about an event that a client has received. It reports whether a fault may have
// destroyed the event afterwards, so that the system must announce the loss.
func (list losses) destroyed(l *log, e history.Entry) bool {
	slack := shownSlack
	if e.Op == history.App {
		slack = readSlack
	}
	e.T -= slack
	truth, ok := l.at(e.Seq)
	switch {
	case !ok && e.Seq <= l.head():
		// A server whose disk was full while the log was trimmed may keep the oldest records, and
		// may send them later.
		return list.after(e.T, history.LossHole, history.LossAll) || list.after(0, history.LossStart)
	case !list.after(e.T, history.LossEnd, history.LossAll, history.LossShown):
		return false
	case list.after(e.T, history.LossLast):
		return true
	case ok:
		return e.Epoch == "" || truth.epoch == "" || e.Epoch != truth.epoch
	}
	return e.Epoch == "" || l.epoch() == "" || e.Epoch != l.epoch()
}
