package hub

import "sync/atomic"

// Stats are a hub's counters. They are written by its loop and read by anybody.
type Stats struct {
	Rooms atomic.Int64 // now followed

	Deliveries atomic.Uint64 // frames of rooms given to a member
	Replayed   atomic.Uint64 // events served from the log
	Writes     atomic.Uint64 // system calls, or what the backend has for them
	Bytes      atomic.Uint64 // written
	Overtaken  atomic.Uint64 // members the ring left behind
	Gaps       atomic.Uint64 // announced
	Reads      atomic.Uint64 // pages asked for
	InboxDrops atomic.Uint64 // deliveries let go because the loop was too far behind
	Unreadable atomic.Uint64 // events a text session could not be shown
}

// tally is what a loop has counted since it added to its stats: plain numbers, for
// they change with every write.
type tally struct{ deliveries, writes, bytes uint64 }

func (s *Stats) add(t *tally) {
	if t.writes == 0 && t.deliveries == 0 {
		return
	}
	s.Deliveries.Add(t.deliveries)
	s.Writes.Add(t.writes)
	s.Bytes.Add(t.bytes)
	*t = tally{}
}
