package session

import (
	"roomcast/gateway/limit"
	"roomcast/proto"
)

// restOf returns the part of the memory budget to which the unused bytes of s belong.
func (st *state) restOf(s *session) *limit.Part {
	if s.flags&upgraded == 0 {
		return &st.requests
	}
	return &st.parts
}

// forgetRest gives back to the budget what the last holdRest has taken. The session calls it when
// more bytes arrive or the connection ends.
func (st *state) forgetRest(s *session) {
	if s.rest > 0 {
		st.restOf(s).Add(-int(s.rest))
		s.rest = 0
	}
}

// holdRest takes n unused bytes from the memory budget. The loop keeps these bytes until the rest
// of a message or request arrives. If the budget has no space for them, holdRest closes the
// session or refuses the request, and returns false.
func (lc *lifecycle) holdRest(s *session, n int) bool {
	if n == 0 {
		return true
	}
	fits := s.kind != jsonKind || n <= proto.UsualBytes(lc.cfg.MaxMessage) || lc.cfg.Hub.Memory.Spare(limit.Messages)
	n *= 2 // the loop's buffer may be twice as large as its contents
	if fits && lc.restOf(s).Take(n) {
		s.rest = uint32(n)
		return true
	}
	lc.stats.MemoryCloses.Add(1)
	if s.phase == handshake {
		lc.refuse(s, proto.Refuse(proto.Overloaded, "this gateway has too many unfinished requests; try again"))
	} else {
		lc.close(s, proto.CloseShed, "this gateway has too many unfinished messages; try again", proto.LeftServer)
	}
	return false
}
