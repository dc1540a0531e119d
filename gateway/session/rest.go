package session

import (
	"roomcast/gateway/limit"
	"roomcast/proto"
)

// restOf returns the part of the memory that holds what has come of s and is not used yet.
func (ss *Sessions) restOf(s *session) *limit.Part {
	if s.flags&upgraded == 0 {
		return &ss.requests
	}
	return &ss.parts
}

// holdRest counts n bytes that the loop keeps for s until more comes. If there is no memory
// for them the session is closed, or its request refused.
func (ss *Sessions) holdRest(s *session, n int) bool {
	if n == 0 {
		return true
	}
	n *= 2 // the loop's buffer has room for more
	if ss.restOf(s).Take(n) {
		s.rest = uint32(n)
		return true
	}
	ss.stats.MemoryCloses.Add(1)
	if s.phase == handshake {
		ss.refuse(s, proto.Refuse(proto.Overloaded, "this gateway holds too many unfinished requests; try again"))
	} else {
		ss.close(s, proto.CloseShed, "this gateway holds too many unfinished messages; try again", proto.LeftServer)
	}
	return false
}

// forgetRest ends what holdRest began, before the bytes are used or with the connection.
func (ss *Sessions) forgetRest(s *session) {
	if s.rest > 0 {
		ss.restOf(s).Add(-int(s.rest))
		s.rest = 0
	}
}
