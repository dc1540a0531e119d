package hub

import "sync/atomic"

// Stats are a hub's counters. The loop writes them; any goroutine may read them.
type Stats struct {
	Rooms atomic.Int64 // now followed

	Deliveries atomic.Uint64 // frames of rooms given to a member
	Replayed   atomic.Uint64 // events served from the log
	Writes     atomic.Uint64 // system calls, or their equivalent in the portable backend
	Bytes      atomic.Uint64 // written
	FellBehind atomic.Uint64 // members that still needed frames when a ring dropped them
	Gaps       atomic.Uint64 // announced
	Reads      atomic.Uint64 // pages requested from the log
	InboxDrops atomic.Uint64 // deliveries dropped because the loop was too far behind
	Unreadable atomic.Uint64 // events that could not be shown
}

// add adds the counts of a turn, and clears them. The arguments are plain numbers because they
// change with every write.
func (s *Stats) add(deliveries, writes, bytes *uint64) {
	if *writes == 0 && *deliveries == 0 {
		return
	}
	s.Deliveries.Add(*deliveries)
	s.Writes.Add(*writes)
	s.Bytes.Add(*bytes)
	*deliveries, *writes, *bytes = 0, 0, 0
}
