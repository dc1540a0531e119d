package session

import (
	"net/netip"
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto"
)

// forbidden returns the refusal for a session without the right in room, nil if it has it.
func (st *state) forbidden(s *session, room proto.Room, right proto.Right) *proto.Refusal {
	if right == "" || s.grant.Of(room, s.who.ID).Allow(right) {
		return nil
	}
	return proto.Refuse(proto.Forbidden, "you do not have the right %s in this room", right)
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

// countFailure counts a token that is not accepted. One that has expired was good, and many
// clients of one address may have such.
func (st *state) countFailure(s *session, err error) {
	if st.limitsFailures(s) && auth.CloseCode(err) == proto.CloseBadToken {
		st.auth.Failures().Add(netip.AddrFrom16(s.peer), st.loop.Now())
	}
}

// tooManyFailures refuses a credential from an address with too many bad ones.
func (st *state) tooManyFailures(s *session) error {
	if !st.limitsFailures(s) {
		return nil
	}
	if wait := st.auth.Failures().Wait(netip.AddrFrom16(s.peer), st.loop.Now()); wait > 0 {
		return proto.Refuse(proto.RateLimited, "too many tokens from your address were refused; try again later").After(wait)
	}
	return nil
}

// limitsFailures reports whether refused credentials count for the peer's addrelc. All
// clients of a proxy have its address; one that is near is not counted.
func (st *state) limitsFailures(s *session) bool {
	peer := netip.AddrFrom16(s.peer).Unmap()
	return s.flags&proxied == 0 || !peer.IsLoopback() && !peer.IsPrivate()
}
