package check

import "roomcast/scripts/torture/history"

// place is a client in a room.
type place struct{ client, room string }

// cursor is how far a client has been shown a room.
type cursor struct {
	state state
	began bool // have counts
	have  uint64
	from  bool // the join under way said from where
	fresh bool // no event has come since the join
}

type state int

const (
	out    state = iota // does not want to follow the room
	away                // wants to, but is not connected
	asking              // has sent a join
	in
)

// member takes over what a client did and saw as a member of a room.
func (c *checker) member(e history.Entry) {
	p := place{e.Client, e.Room}
	m := c.cursors[p]
	if m == nil {
		m = &cursor{}
		c.cursors[p] = m
	}
	switch e.Op {
	case history.Join:
		m.state, m.from = asking, e.From != nil
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
		m.state, m.fresh = in, true
		if !m.from {
			m.have, m.began = e.Seq, true
		}
	case history.Left:
		m.state = out
	case history.Gap:
		c.report.Gaps++
		// Rooms are never trimmed in a run: every event is still there to be shown.
		c.report.add(Skip, "%s is told that %s can no longer be had up to %d (%s)", e.Client, e.Room, e.Seq, e.Why)
		m.have = max(m.have, e.Seq)
	case history.Recv:
		c.recv(p, m, e)
	}
}

func (c *checker) recv(p place, m *cursor, e history.Entry) {
	r := c.report
	r.Deliveries++
	if m.state != in {
		r.add(BadResume, "%s is shown %d of %s without having been let in", p.client, e.Seq, p.room)
		return
	}
	misplaced, repeated := Reorder, Duplicate
	missing := Skip
	if m.fresh {
		misplaced, repeated, missing = BadResume, BadResume, BadResume
		m.fresh = false
	}
	due := m.have + 1
	truth, ok := c.room(p.room).at(e.Seq)
	switch {
	case !ok:
		r.add(Phantom, "%s is shown %q as %d of %s, where the log has nothing", p.client, e.Key, e.Seq, p.room)
	case truth.key != e.Key:
		if at := c.room(p.room).byKey[e.Key]; at != 0 {
			r.add(misplaced, "%s is shown %s as %d of %s, the log has it as %d", p.client, e.Key, e.Seq, p.room, at)
		} else {
			r.add(Phantom, "%s is shown %q as %d of %s, the log has %q", p.client, e.Key, e.Seq, p.room, truth.key)
		}
	case truth.body != e.Body || truth.kind != e.Kind || truth.at != e.At:
		r.add(Phantom, "%s is shown %s as %d of %s, but not as the log has it", p.client, e.Key, e.Seq, p.room)
	}
	switch {
	case e.Seq == due:
	case e.Seq == m.have:
		r.add(repeated, "%s is shown %d of %s twice", p.client, e.Seq, p.room)
	case e.Seq < due:
		r.add(misplaced, "%s is shown %d of %s after %d", p.client, e.Seq, p.room, m.have)
	default:
		r.add(missing, "%s is shown %d of %s after %d", p.client, e.Seq, p.room, m.have)
	}
	m.have = max(m.have, e.Seq)
}

// caughtUp checks that a member that wants to follow a room has seen all of it.
func (c *checker) caughtUp(p place, m *cursor) {
	head := uint64(len(c.room(p.room).events))
	switch {
	case m.state == out:
	case m.state != in:
		c.report.add(Stuck, "%s has not come back to %s", p.client, p.room)
	case m.have < head:
		c.report.add(Stuck, "%s has been shown %s up to %d of %d", p.client, p.room, m.have, head)
	}
}
