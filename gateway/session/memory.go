package session

import (
	"roomcast/gateway/limit"
	"roomcast/proto"
)

// restOf returns the part of the memory budget that counts the unused bytes of s.
func (st *state) restOf(s *session) *limit.Part {
	if s.flags&upgraded == 0 {
		return &st.requests
	}
	return &st.parts
}

// forgetRest undoes the last holdRest, because more bytes have come or the connection has ended.
func (st *state) forgetRest(s *session) {
	if s.rest > 0 {
		st.restOf(s).Add(-int(s.rest))
		s.rest = 0
	}
}

// holdRest counts n bytes that the loop keeps until the rest of a message or request comes. If the
// memory budget has no space for them, it closes the session or refuses the request.
func (lc *lifecycle) holdRest(s *session, n int) bool {
	if n == 0 {
		return true
	}
	n *= 2 // the loop's buffer has room for more
	if lc.restOf(s).Take(n) {
		s.rest = uint32(n)
		return true
	}
	lc.stats.MemoryCloses.Add(1)
	if s.phase == handshake {
		lc.refuse(s, proto.Refuse(proto.Overloaded, "this gateway holds too many unfinished requests; try again"))
	} else {
		lc.close(s, proto.CloseShed, "this gateway holds too many unfinished messages; try again", proto.LeftServer)
	}
	return false
}
