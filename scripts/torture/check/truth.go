package check

import (
	"math"
	"slices"
	"time"

	"roomcast/scripts/torture/history"
)

// log is the truth about one room: the events that a new reader finds after the run, and
// those that members were shown before a fault destroyed them.
type log struct {
	events []event // of seq 1, 2, 3, ...; the zero event where the log has none
	byKey  map[string]uint64
	epochs []string          // as they follow each other in events; "" = not known
	begins map[string]uint64 // epoch -> its first seq in events
	gone   map[place]event   // destroyed since, as the first member was shown it
	closed string            // the key of the act that closed it, while events is read; "" while open
	acked  uint64            // the highest seq acknowledged so far in this era, in the second reading
	era    int               // of acked
}

type event struct {
	key   string
	body  uint64
	at    int64
	kind  string
	epoch string
}

// place is a seq of an epoch.
type place struct {
	epoch string
	seq   uint64
}

func (c *checker) room(name string) *log {
	l := c.rooms[name]
	if l == nil {
		l = &log{byKey: map[string]uint64{}, begins: map[string]uint64{}, gone: map[place]event{}}
		c.rooms[name] = l
	}
	return l
}

func (l *log) head() uint64 { return uint64(len(l.events)) }

// epoch returns the newest epoch, "" if it is not known.
func (l *log) epoch() string {
	if len(l.epochs) == 0 {
		return ""
	}
	return l.epochs[len(l.epochs)-1]
}

func (l *log) at(seq uint64) (event, bool) {
	if seq == 0 || seq > l.head() {
		return event{}, false
	}
	e := l.events[seq-1]
	return e, e != event{}
}

// lacks reports whether the log has none of the events from to to.
func (l *log) lacks(from, to uint64) bool {
	for seq := from; seq <= min(to, l.head()); seq++ {
		if _, ok := l.at(seq); ok {
			return false
		}
	}
	return true
}

// lacked reports whether the log may have had none of the events from to to at time t: it has
// none now, or a fault has replaced them since.
func (c *checker) lacked(l *log, from, to uint64, t int64) bool {
	return l.lacks(from, to) || c.lossAfter(t, history.LossEnd, history.LossAll)
}

// later reports whether epoch a follows epoch b in the log.
func (l *log) later(a, b string) bool {
	return a != "" && b != "" && slices.Index(l.epochs, a) > slices.Index(l.epochs, b) && slices.Contains(l.epochs, b)
}

// differ reports whether two epochs are known to be different.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// truth processes one entry of the log as the new reader found it.
func (c *checker) truth(e history.Entry) {
	l := c.room(e.Room)
	c.report.Stored++
	want := l.head() + 1
	if e.Seq < want {
		c.report.add(Reorder, "the log of %s goes on with seq %d where %d is due", e.Room, e.Seq, want)
		return
	}
	if e.Seq > want {
		if !c.lossAfter(0, history.LossHole, history.LossStart, history.LossAll) {
			c.report.add(Skip, "the log of %s goes on with seq %d where %d is due", e.Room, e.Seq, want)
		}
		l.events = append(l.events, make([]event, e.Seq-want)...)
		l.closed = "" // one of the missing records may have opened it
	}
	if differ(e.Epoch, l.epoch()) && !c.lossAfter(0, history.LossEnd, history.LossAll, history.LossHole, history.LossShown) {
		c.report.add(Skip, "%s begins the epoch %s at %d, although no fault took its end", e.Room, e.Epoch, e.Seq)
	}
	if len(l.epochs) == 0 || e.Epoch != l.epoch() {
		l.epochs = append(l.epochs, e.Epoch)
		l.begins[e.Epoch] = e.Seq
		l.closed = "" // the lost end may have opened it; closings judges by the answers
	}
	if first, ok := l.byKey[e.Key]; ok {
		c.report.add(Duplicate, "%s is stored twice in %s, as %d and %d", e.Key, e.Room, first, e.Seq)
	} else {
		l.byKey[e.Key] = e.Seq
	}
	if before, ok := l.at(e.Seq - 1); ok && e.At < before.at {
		c.report.add(Clock, "in %s the time of %d is %d ms before that of the event before it", e.Room, e.Seq, before.at-e.At)
	}
	switch e.Kind {
	case "closed":
		l.closed = e.Key
	case "reopened":
		l.closed = ""
	case "":
		if l.closed != "" {
			c.report.add(AfterClose, "%s is stored as %d in %s, which %s had closed", e.Key, e.Seq, e.Room, l.closed)
		}
	}
	l.events = append(l.events, event{e.Key, e.Body, e.At, e.Kind, e.Epoch})
}

// shown compares an event that a client was shown with the log. Misplaced is the rule that
// an event breaks if the log has it under another seq.
func (c *checker) shown(e history.Entry, misplaced Rule) {
	l, r := c.room(e.Room), c.report
	truth, ok := l.at(e.Seq)
	if ok && truth.key == e.Key {
		// A record that was lost and sent again has the same key and another time.
		if truth.body != e.Body || truth.kind != e.Kind || truth.at != e.At && !c.destroyed(l, e) {
			r.add(Phantom, "%s is shown %s as %d of %s, but not as the log has it", e.Client, e.Key, e.Seq, e.Room)
		}
		return
	}
	if c.destroyed(l, e) {
		if e.Epoch == "" {
			return
		}
		at := place{e.Epoch, e.Seq}
		first, known := l.gone[at]
		now := event{e.Key, e.Body, e.At, e.Kind, ""}
		if !known {
			l.gone[at] = now
		} else if first != now {
			r.add(Reorder, "%s is shown %s as %d of %s in epoch %s, another was shown %s", e.Client, e.Key, e.Seq, e.Room, e.Epoch, first.key)
		}
		return
	}
	at := l.byKey[e.Key]
	switch {
	case at != 0:
		r.add(misplaced, "%s is shown %s as %d of %s, the log has it as %d", e.Client, e.Key, e.Seq, e.Room, at)
	case e.Seq > l.head() && c.lossAfter(e.T, history.LossEnd, history.LossAll):
		r.add(Lost, "%s is shown %s as %d of %s; the log ends with %d, in the same epoch", e.Client, e.Key, e.Seq, e.Room, l.head())
	case !ok:
		r.add(Phantom, "%s is shown %q as %d of %s, where the log has nothing", e.Client, e.Key, e.Seq, e.Room)
	default:
		r.add(Phantom, "%s is shown %q as %d of %s, the log has %q", e.Client, e.Key, e.Seq, e.Room, truth.key)
	}
}

// destroyed reports whether a fault may have destroyed the event e since it was shown, and
// whether the log announces that.
func (c *checker) destroyed(l *log, e history.Entry) bool {
	e.T -= shownSlack
	truth, ok := l.at(e.Seq)
	switch {
	case !ok && e.Seq <= l.head():
		return c.lossAfter(e.T, history.LossHole, history.LossStart, history.LossAll)
	case !c.lossAfter(e.T, history.LossEnd, history.LossAll, history.LossShown):
		return false
	case ok:
		return e.Epoch == "" || truth.epoch == "" || e.Epoch != truth.epoch
	}
	return e.Epoch == "" || l.epoch() == "" || e.Epoch != l.epoch()
}

// loss is a fault that may destroy something.
type loss struct {
	key      string
	what     history.Loss
	from, to int64
}

const (
	// lossSlack is how long after a fault the records that it destroyed may be acknowledged.
	lossSlack = int64(2 * time.Second)
	// shownSlack is how long after a fault the records that it destroyed may be shown, by a
	// gateway that was paused.
	shownSlack = int64(45 * time.Second)
)

// learn processes the faults, the epochs and the places of messages in the first reading.
func (c *checker) learn(e history.Entry) {
	switch e.Op {
	case history.OK, history.Recv, history.PageRecv:
		if place, ok := c.places[e.Key]; ok && place != e.Seq {
			c.places[e.Key] = 0
		} else {
			c.places[e.Key] = e.Seq
		}
	}
	switch {
	case e.Epoch != "":
		if c.known[e.Room] == nil {
			c.known[e.Room] = map[string]bool{}
		}
		c.known[e.Room][e.Epoch] = true
	case e.Op == history.Fault && e.Loss != "":
		c.losses = append(c.losses, loss{e.Key, e.Loss, e.T, math.MaxInt64 - lossSlack})
	case e.Op == history.Mend:
		for i := range c.losses {
			if c.losses[i].key == e.Key {
				c.losses[i].to = e.T
			}
		}
	}
}

// moved reports whether the message of a key was once stored under another seq than now: a
// fault destroyed it, and its sender sent it again.
func (c *checker) moved(key string, seq uint64) bool {
	place, ok := c.places[key]
	return ok && place != seq
}

// lossAfter reports whether a fault that may destroy one of words ended after t.
func (c *checker) lossAfter(t int64, words ...history.Loss) bool {
	for _, l := range c.losses {
		if l.to+lossSlack >= t && l.what.Any(words...) {
			return true
		}
	}
	return false
}

// lossBetween reports whether a fault that may destroy one of words was at work between two
// times.
func (c *checker) lossBetween(from, to int64, words ...history.Loss) bool {
	for _, l := range c.losses {
		if l.from <= to && l.to+lossSlack >= from && l.what.Any(words...) {
			return true
		}
	}
	return false
}

// era numbers the times between faults that destroy records. It is -1 while one is at work.
// Events of different eras, or of none, cannot be compared.
func (c *checker) era(t int64) (n int) {
	for _, l := range c.losses {
		switch {
		case l.what == history.LossShown: // acknowledged records stay
		case l.from <= t && t <= l.to+lossSlack:
			return -1
		case l.to < t:
			n++
		}
	}
	return n
}

// sameEra reports whether the events of two times can be compared.
func (c *checker) sameEra(a, b int64) bool { return c.era(a) == c.era(b) && c.era(a) >= 0 }
