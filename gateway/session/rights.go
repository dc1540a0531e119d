package session

import (
	"net/netip"
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto"
)

// forbidden returns the refusal for a session without the right in room, nil if it has it.
func (st *state) forbidden(s *session, room proto.Room, right proto.Right) *proto.Refusal {
	return s.grant.Check(room, s.who.ID, right)
}

// expelLost ends the memberships for which a session no longer has the right. Joins that have
// not been answered are refused when they are.
func (lc *lifecycle) expelLost(s *session) {
	for _, room := range lc.hub.RoomsOf(s.id) {
		lost := lc.forbidden(s, room, proto.RightRead)
		if _, waits := lc.joins[memberKey{s.id, room}]; waits || lost == nil {
			continue
		}
		if room == s.home {
			lc.close(s, proto.CloseForbidden, lost.Message, proto.LeftServer)
			return
		}
		lc.hub.Leave(s.id, room)
		delete(lc.resends, memberKey{s.id, room})
		lc.bridge.Left(room, s.who, proto.LeftServer)
		lc.buf = proto.AppendEnded(lc.buf[:0], room, proto.CloseForbidden, lost.Message)
		lc.hub.Text(s.id, lc.buf)
	}
}

// refuseToken closes a session whose token is not accepted.
func (lc *lifecycle) refuseToken(s *session, err error) {
	lc.countFailure(s, err)
	lc.close(s, auth.CloseCode(err), proto.AsRefusal(err).Message, proto.LeftServer)
	lc.loop.SetDeadline(s.id, time.Second)
}

// countFailure counts a token that is not accepted.
func (st *state) countFailure(s *session, err error) {
	st.auth.CountFailure(netip.AddrFrom16(s.peer), s.flags&proxied != 0, err, st.loop.Now())
}

// tooManyFailures refuses a credential from an address with too many bad ones.
func (st *state) tooManyFailures(s *session) error {
	return st.auth.CheckPeer(netip.AddrFrom16(s.peer), s.flags&proxied != 0, st.loop.Now())
}
