package check

import (
	"math"

	"roomcast/scripts/torture/history"
)

// seat identifies a client in a room.
type seat struct{ client, room string }

// cursor is the checker's knowledge about a client in a room.
type cursor struct {
	state  state
	began  bool // the client has received an event, so have is valid
	have   uint64
	epoch  string // the epoch that the client knows; "" = it knows no epoch
	from   bool   // the last join named a seq after which to continue
	fresh  bool   // the client has received no event since the join
	due    bool   // the answer to the join named another epoch; the client keeps the old epoch until it receives the reset
	replay bool   // the client has received no event since a reset
	reset  int64  // when the client received the last reset; 0 = never
	head   uint64 // the room's newest seq at the join; after a reset the largest uint64
	joined int64  // when the client last joined
	told   int    // the number of members in the last notice of a join or leave; 0 = no notice yet
}

type state int

const (
	out    state = iota // the client does not want to follow the room
	away                // the client wants to follow the room, but is not connected
	asking              // the client has sent a join
	in                  // the client has joined the room
	shut                // the client has received the close of the room
)

// member checks an entry of a client as a member of a room: what it did or received.
func (c *checker) member(e history.Entry) {
	p := seat{e.Client, e.Room}
	m := c.cursors[p]
	if m == nil {
		m = &cursor{}
		c.cursors[p] = m
	}
	switch e.Op {
	case history.Join:
		m.state, m.from, m.told = asking, e.From != nil, 0
		if e.From == nil {
			m.began = false
			return
		}
		c.report.Resumes++
		if m.began && *e.From != m.have {
			c.report.add(Broken, "%s has seen %s up to %d and joins it from %d", e.Client, e.Room, m.have, *e.From)
		}
		m.have, m.began = *e.From, true
	case history.Joined:
		c.joined(m, e)
	case history.Left:
		m.state = out
	case history.Gap:
		c.gap(m, e)
	case history.Recv:
		c.recv(m, e)
	case history.Told:
		m.told = e.Count
	}
}

func (c *checker) joined(m *cursor, e history.Entry) {
	m.due = m.from && m.have > 0 && differ(e.Epoch, m.epoch)
	m.state, m.fresh, m.head, m.replay, m.joined = in, true, e.Seq, false, e.T
	if !m.due {
		m.epoch = e.Epoch
	}
	if !m.from {
		m.have, m.began = e.Seq, true
	}
}

// gap checks the announcement that events are lost.
func (c *checker) gap(m *cursor, e history.Entry) {
	r, l := c.report, c.room(e.Room)
	r.Gaps++
	if e.Why == "reset" {
		r.Resets++
		since := m.reset // a fault before the previous reset does not explain this one
		if m.joined > m.reset {
			since = min(since, e.T-shownSlack) // but the member may have come to another gateway, which notices an earlier fault late
		}
		switch {
		case !c.losses.between(0, e.T, history.LossEnd, history.LossAll, history.LossHole, history.LossShown):
			r.add(Epoch, "%s receives a reset of %s, although no fault took anything", e.Client, e.Room)
		case m.reset > 0 && e.Epoch == m.epoch && !m.due && !c.losses.between(since, e.T, history.LossEnd, history.LossAll, history.LossHole, history.LossShown):
			r.add(Epoch, "%s receives a second reset of %s to epoch %s", e.Client, e.Room, e.Epoch)
		case e.Epoch == "" && l.epoch() != "" && l.begins[l.epoch()] > 1 && !c.losses.after(e.T, history.LossEnd, history.LossAll, history.LossShown):
			// A room that has lost all its records has no epoch until it stores the next event. So
			// its reset need not name an epoch.
			r.add(Epoch, "%s receives a reset of %s without its epoch", e.Client, e.Room)
		}
		m.have, m.began, m.replay, m.due, m.fresh = 0, true, true, false, false
		m.epoch, m.reset, m.head = e.Epoch, e.T, math.MaxUint64
		return
	}
	from := uint64(1)
	if e.From != nil {
		from = *e.From
	}
	if from > m.have+1 && !c.losses.lacked(l, m.have+1, from-1, e.T) {
		r.add(Skip, "%s receives a gap which says that %s has lost %d to %d, after %d", e.Client, e.Room, from, e.Seq, m.have)
	}
	if !c.losses.lacked(l, max(from, m.have+1), e.Seq, e.T) {
		r.add(Skip, "%s receives a gap which says that %s has lost %d to %d (%s), but the log has them", e.Client, e.Room, from, e.Seq, e.Why)
	}
	if !c.losses.between(0, e.T, history.LossHole, history.LossStart, history.LossAll) {
		r.add(Skip, "%s receives a gap which says that %s has lost %d to %d (%s), although no fault took anything", e.Client, e.Room, from, e.Seq, e.Why)
	}
	m.have = max(m.have, e.Seq)
}

func (c *checker) recv(m *cursor, e history.Entry) {
	r, l := c.report, c.room(e.Room)
	r.Deliveries++
	switch m.state {
	case in:
	case shut:
		r.add(AfterClose, "%s receives event %d of %s after the closing", e.Client, e.Seq, e.Room)
		return
	default:
		r.add(BadResume, "%s receives event %d of %s although it has not joined", e.Client, e.Seq, e.Room)
		return
	}
	if m.epoch == "" || m.have == 0 && e.Epoch != "" {
		m.epoch = e.Epoch // of the first event; the client knows no other epoch yet
	}
	misplaced, repeated, missing := Reorder, Duplicate, Skip
	if m.fresh {
		misplaced, repeated, missing = BadResume, BadResume, BadResume
		m.fresh = false
	}
	c.shown(e, misplaced)
	truth, ok := l.at(e.Seq)
	switch {
	case m.due || differ(e.Epoch, m.epoch):
		r.add(Epoch, "%s receives event %d of %s in epoch %s without a reset", e.Client, e.Seq, e.Room, e.Epoch)
		m.epoch, m.due = e.Epoch, false
	case ok && truth.key == e.Key && truth.at == e.At && l.later(truth.epoch, m.epoch):
		r.add(Epoch, "%s receives event %d of %s, which belongs to epoch %s, and knows only %s", e.Client, e.Seq, e.Room, truth.epoch, m.epoch)
		m.epoch = truth.epoch
	}
	due := m.have + 1
	switch {
	case e.Seq == due:
	case e.Seq == m.have:
		r.add(repeated, "%s receives event %d of %s twice", e.Client, e.Seq, e.Room)
	case e.Seq < due:
		r.add(misplaced, "%s receives event %d of %s after %d", e.Client, e.Seq, e.Room, m.have)
	case m.replay && c.losses.lacked(l, due, e.Seq-1, e.T): // after a reset the replay begins with the oldest record that the log still has
	default:
		r.add(missing, "%s receives event %d of %s after %d", e.Client, e.Seq, e.Room, m.have)
	}
	m.have, m.replay = max(m.have, e.Seq), false
	if e.Kind == "closed" && e.Seq > m.head {
		m.state = shut
	}
}

// calm checks that every connected member has received every acknowledged event. It runs after a
// time without messages. It must run before the next messages, because those show the gateways that
// they have missed an event.
func (c *checker) calm() {
	for p, m := range c.cursors {
		if l := c.room(p.room); m.state == in && m.have < l.acked && c.losses.era(math.MaxInt64) == l.era {
			c.report.add(Stuck, "%s has received %s up to %d and does not receive %d", p.client, p.room, m.have, l.acked)
		}
	}
}

// caughtUp checks a member that wants to follow a room: it must have received the room's newest
// event.
func (c *checker) caughtUp(p seat, m *cursor) {
	l := c.room(p.room)
	switch {
	case m.state == out:
	case m.state != in:
		c.report.add(Stuck, "%s has not joined %s again", p.client, p.room)
	case m.have < l.head():
		c.report.add(Stuck, "%s has received %s up to %d of %d", p.client, p.room, m.have, l.head())
	case differ(m.epoch, l.epoch()):
		c.report.add(Epoch, "%s is in epoch %s of %s, whose log has %s", p.client, m.epoch, p.room, l.epoch())
	case m.have > l.head():
		c.report.add(Epoch, "%s has received %s up to %d, the log ends with %d", p.client, p.room, m.have, l.head())
	}
}
