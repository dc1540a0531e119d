package hub

import "sync/atomic"

// Stats contains a hub's counters. The loop writes them. Any goroutine may read them.
type Stats struct {
	Rooms atomic.Int64 // rooms that the hub follows now

	Deliveries atomic.Uint64 // frames written to members
	Replayed   atomic.Uint64 // events sent from the log
	Writes     atomic.Uint64 // system calls, or writes in the portable backend
	Bytes      atomic.Uint64 // bytes written
	FellBehind atomic.Uint64 // members that fell behind because a ring dropped frames that they needed
	Gaps       atomic.Uint64 // gaps announced
	Reads      atomic.Uint64 // pages requested from the log
	InboxDrops atomic.Uint64 // deliveries dropped because too many waited for the loop
	Unreadable atomic.Uint64 // events that could not be encoded
}

// add adds the counts since its last call, and sets the arguments to 0. The arguments are not
// atomic because the loop changes them with every write.
func (s *Stats) add(deliveries, writes, bytes *uint64) {
	if *writes == 0 && *deliveries == 0 {
		return
	}
	s.Deliveries.Add(*deliveries)
	s.Writes.Add(*writes)
	s.Bytes.Add(*bytes)
	*deliveries, *writes, *bytes = 0, 0, 0
}
