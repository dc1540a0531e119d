package check

import "roomcast/scripts/torture/history"

// applications holds the highest seq that each application has received in each room. An
// application must receive the same events as members, in the same order, each at least once. Only
// after a fault that destroys records, some may be missing.
type applications map[seat]uint64

// entry checks an event that an application received.
func (a applications) entry(c *checker, e history.Entry) {
	c.report.Told++
	p := seat{e.Client, e.Room}
	c.shown(e, Reorder)
	if have := a[p]; e.Seq > have+1 && !c.losses.any() {
		c.report.add(Skip, "application %s receives event %d of %s after %d", e.Client, e.Seq, e.Room, have)
	}
	a[p] = max(a[p], e.Seq)
}

// finish checks that every application has received all events of every room.
func (a applications) finish(c *checker) {
	clients := map[string]bool{}
	for p := range a {
		clients[p.client] = true
	}
	for client := range clients {
		for room, l := range c.rooms {
			if have := a[seat{client, room}]; have < l.head() && !c.losses.any() {
				c.report.add(Stuck, "application %s has received %s up to %d of %d", client, room, have, l.head())
			}
		}
	}
}
