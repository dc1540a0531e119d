package check

import (
	"slices"

	"roomcast/scripts/torture/history"
)

// log is the truth about one room: the events that a new reader found after the run, and the events
// that members received before a fault destroyed them.
type log struct {
	events []event // with seq 1, 2, 3, ...; a zero event stands for a missing event
	byKey  map[string]uint64
	epochs []string          // in the order of events; "" = not known
	begins map[string]uint64 // epoch -> its first seq in events
	gone   map[place]event   // destroyed events, as the first member received them
	closed string            // in the first reading: the key of the act that closed the room; "" = open
	acked  uint64            // in the second reading: the highest seq acknowledged so far in era
	era    int               // the era of acked
}

type event struct {
	key   string
	body  uint64
	at    int64
	kind  string
	epoch string
}

// place is a seq in an epoch.
type place struct {
	epoch string
	seq   uint64
	era   int // see losses.era
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

// epoch returns the newest epoch of the log; "" = it is not known.
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

// lacks reports whether the log has none of the events from, from+1, …, to.
func (l *log) lacks(from, to uint64) bool {
	for seq := from; seq <= min(to, l.head()); seq++ {
		if _, ok := l.at(seq); ok {
			return false
		}
	}
	return true
}

// later reports whether epoch a follows epoch b in the log.
func (l *log) later(a, b string) bool {
	return a != "" && b != "" && slices.Index(l.epochs, a) > slices.Index(l.epochs, b) && slices.Contains(l.epochs, b)
}

// differ reports whether two epochs are both known and different.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// truth checks one record of the log, and adds it to the log of its room.
func (c *checker) truth(e history.Entry) {
	l := c.room(e.Room)
	c.report.Stored++
	want := l.head() + 1
	if e.Seq < want {
		c.report.add(Reorder, "the log of %s continues with seq %d instead of %d", e.Room, e.Seq, want)
		return
	}
	if e.Seq > want {
		if !c.losses.after(0, history.LossHole, history.LossStart, history.LossAll) {
			c.report.add(Skip, "the log of %s continues with seq %d instead of %d", e.Room, e.Seq, want)
		}
		l.events = append(l.events, make([]event, e.Seq-want)...)
		l.closed = "" // one of the missing records may have opened the room
	}
	if differ(e.Epoch, l.epoch()) && !c.losses.after(0, history.LossEnd, history.LossAll, history.LossHole, history.LossShown) {
		c.report.add(Skip, "%s begins the epoch %s at %d, although no fault took its end", e.Room, e.Epoch, e.Seq)
	}
	if len(l.epochs) == 0 || e.Epoch != l.epoch() {
		l.epochs = append(l.epochs, e.Epoch)
		l.begins[e.Epoch] = e.Seq
		l.closed = "" // a lost record may have opened the room; the function closings checks this by the answers instead
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

// shown compares an event that a client received with the log. If the log has the event under
// another seq, shown reports a violation of the rule misplaced.
func (c *checker) shown(e history.Entry, misplaced Rule) {
	l, r := c.room(e.Room), c.report
	truth, ok := l.at(e.Seq)
	if ok && truth.key == e.Key {
		// A message that was lost and sent again has the same key and another time. The epoch may
		// be the same: a restored log may end with a record that was stored and not acknowledged,
		// and the message was stored again meanwhile.
		again := c.losses.destroyed(l, e) || c.losses.after(e.T-shownSlack, history.LossEnd, history.LossAll)
		if truth.body != e.Body || truth.kind != e.Kind || truth.at != e.At && !again {
			r.add(Phantom, "%s receives %s as %d of %s with another content than the log has", e.Client, e.Key, e.Seq, e.Room)
		}
		return
	}
	if c.losses.destroyed(l, e) {
		if s := c.says[e.Key]; s == nil || s.room != e.Room || s.body != e.Body {
			r.add(Phantom, "%s receives %q as %d of %s, which nobody said", e.Client, e.Key, e.Seq, e.Room)
		}
		if e.Epoch == "" {
			return
		}
		// The owner may store another message under the seq of a destroyed record, until a gateway
		// reports the loss. Then the owner begins a new epoch. The members who received the
		// destroyed record get a reset before they receive the other message.
		at := place{e.Epoch, e.Seq, c.losses.era(e.T)}
		first, known := l.gone[at]
		now := event{e.Key, e.Body, e.At, e.Kind, ""}
		if !known {
			l.gone[at] = now
		} else if first != now && at.era >= 0 {
			r.add(Reorder, "%s receives %s as %d of %s in epoch %s, another received %s", e.Client, e.Key, e.Seq, e.Room, e.Epoch, first.key)
		}
		return
	}
	at := l.byKey[e.Key]
	switch {
	case at != 0:
		r.add(misplaced, "%s receives %s as %d of %s, the log has it as %d", e.Client, e.Key, e.Seq, e.Room, at)
	case e.Seq > l.head() && c.losses.after(e.T, history.LossEnd, history.LossAll):
		r.add(Lost, "%s receives %s as %d of %s; the log ends with %d, in the same epoch", e.Client, e.Key, e.Seq, e.Room, l.head())
	case !ok:
		r.add(Phantom, "%s receives %q as %d of %s, where the log has nothing", e.Client, e.Key, e.Seq, e.Room)
	default:
		r.add(Phantom, "%s receives %q as %d of %s, the log has %q", e.Client, e.Key, e.Seq, e.Room, truth.key)
	}
}
