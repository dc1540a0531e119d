package session

import (
	"sync/atomic"

	"roomcast/proto"
)

// Stats contains the counters of one loop's sessions. The loop writes them. Any goroutine may
// read them.
type Stats struct {
	Sockets atomic.Int64 // open sessions

	Opened       atomic.Uint64 // sessions opened so far
	Refused      atomic.Uint64 // refused handshakes
	Messages     atomic.Uint64 // data frames received
	Pings        atomic.Uint64 // pings sent
	Slow         atomic.Uint64 // sessions closed because the client did not read
	MemoryCloses atomic.Uint64 // connections closed because the memory budget had no space for their unfinished messages
	Lost         atomic.Uint64 // connections that broke without a close frame
	ByClient     atomic.Uint64 // sessions that the client closed, with any code

	refusals map[proto.Code]*atomic.Uint64      // fixed after construction
	closes   map[proto.CloseCode]*atomic.Uint64 // fixed after construction
}

func newStats() *Stats {
	s := &Stats{refusals: make(map[proto.Code]*atomic.Uint64), closes: make(map[proto.CloseCode]*atomic.Uint64)}
	for _, c := range proto.Codes {
		s.refusals[c] = new(atomic.Uint64)
	}
	for _, m := range proto.CloseCodes {
		s.closes[m.Code] = new(atomic.Uint64)
	}
	s.closes[0] = new(atomic.Uint64) // counts the codes that are not in proto.CloseCodes
	return s
}

// Refusals returns how many commands and messages were refused with the code.
func (s *Stats) Refusals(c proto.Code) uint64 {
	if n := s.refusals[c]; n != nil {
		return n.Load()
	}
	return 0
}

// Closes returns how many sessions the server closed with the code. Code 0 stands for all codes
// that are not in [proto.CloseCodes].
func (s *Stats) Closes(c proto.CloseCode) uint64 {
	if n := s.closes[c]; n != nil {
		return n.Load()
	}
	return 0
}

func (s *Stats) refusal(c proto.Code) {
	if n := s.refusals[c]; n != nil {
		n.Add(1)
	}
}

func (s *Stats) closed(c proto.CloseCode) {
	n := s.closes[c]
	if n == nil {
		n = s.closes[0]
	}
	n.Add(1)
}
