package check

import "roomcast/scripts/torture/history"

// application checks an event that an application received. It receives the events of a room
// as members do: the same ones, in the same order, each at least once.
func (c *checker) application(e history.Entry) {
	r := c.report
	r.Told++
	p := seat{e.Client, e.Room}
	have := c.tell[p]
	c.shown(e, Reorder)
	if e.Seq > have+1 && !c.lossy() {
		r.add(Skip, "application %s receives event %d of %s after %d", e.Client, e.Seq, e.Room, have)
	}
	c.tell[p] = max(have, e.Seq)
}

// lossy reports whether some fault of the run takes records. The events of applications may
// have a hole then.
func (c *checker) lossy() bool {
	return c.losses.after(0, history.LossEnd, history.LossShown, history.LossState, history.LossHole, history.LossStart, history.LossAll)
}

// applicationsCaughtUp checks that every application has received all of every room.
func (c *checker) applicationsCaughtUp() {
	clients := map[string]bool{}
	for p := range c.tell {
		clients[p.client] = true
	}
	for client := range clients {
		for room, l := range c.rooms {
			if have := c.tell[seat{client, room}]; have < l.head() && !c.lossy() {
				c.report.add(Stuck, "application %s has received %s up to %d of %d", client, room, have, l.head())
			}
		}
	}
}
