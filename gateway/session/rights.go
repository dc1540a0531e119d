package session

import (
	"net/netip"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// forbidden returns a refusal if the session does not have the right in the room. Otherwise it
// returns nil.
func (st *state) forbidden(s *session, room proto.Room, right proto.Right) *proto.Refusal {
	return s.grant.Check(room, s.who.ID, right)
}

// expelLost ends the memberships of rooms that a session may no longer read. It leaves out joins
// that wait for an answer, because the method joined checks the right again.
func (lc *lifecycle) expelLost(s *session) {
	for _, room := range lc.hub.RoomsOf(s.id) {
		lost := lc.forbidden(s, room, proto.RightRead)
		if _, waits := lc.joins[memberKey{s.id, room}]; waits || lost == nil {
			continue
		}
		if lc.expel(s, room, proto.CloseForbidden, lost.Message); room == s.home {
			return
		}
	}
}

// expel ends the session's membership of a room. If the room is the one of the session's URL,
// expel closes the session.
func (lc *lifecycle) expel(s *session, room proto.Room, code proto.CloseCode, why string) {
	if room == s.home {
		lc.close(s, code, why, proto.LeftServer)
		return
	}
	lc.hub.Leave(s.id, room)
	lc.forget(s, room)
	lc.bridge.Left(room, s.who, proto.LeftServer)
	lc.tellEnded(s, room, code, why)
}

// tellEnded tells a client that its membership of one of several rooms has ended. If a reader of
// events is in no other room, tellEnded closes its stream.
func (lc *lifecycle) tellEnded(s *session, room proto.Room, code proto.CloseCode, why string) {
	lc.buf = proto.AppendEnded(lc.buf[:0], room, code, why)
	lc.hub.Event(s.id, &proto.Record{Room: room, Kind: wire.KindEnded, Payload: lc.buf})
	lc.endEmpty(s, code, why)
}

// banned returns a refusal if the session's user is banned from the room. Otherwise it returns
// nil.
func (st *state) banned(s *session, limits *proto.Restrictions) *proto.Refusal {
	return limits.CheckBan(s.who.ID, proto.IsGuest(s.who.ID), st.loop.Now())
}

// expelled returns a refusal if the session is no longer a member of the room, or may no longer
// read it. It is for commands that are answered some time after they were sent. Otherwise
// expelled returns nil.
func (lc *lifecycle) expelled(s *session, room proto.Room) *proto.Refusal {
	if refusal := lc.forbidden(s, room, proto.RightRead); refusal != nil {
		return refusal
	}
	if !lc.hub.In(s.id, room) {
		return proto.Refuse(proto.NotJoined, "you are no longer in the room")
	}
	return nil
}

// because returns the sentence followed by the moderator's reason, if there is a reason.
func because(sentence, why string) string {
	if why == "" {
		return sentence
	}
	return sentence + ": " + why
}

// refuseToken closes a session because its token or other credential is not accepted.
func (lc *lifecycle) refuseToken(s *session, err error) {
	lc.countFailure(s, err)
	lc.close(s, auth.CloseCode(err), proto.AsRefusal(err).Message, proto.LeftServer)
	lc.loop.SetDeadline(s.id, time.Second)
}

// countFailure counts a refused credential for the session's address.
func (st *state) countFailure(s *session, err error) {
	st.auth.CountFailure(netip.AddrFrom16(s.peer), s.sharesAddress(), err, st.loop.Now())
}

// sharesAddress reports whether the session's address is that of a proxy. Many clients may share
// such an address.
func (s *session) sharesAddress() bool { return s.flags&(proxied|forwarded) == proxied }

// tooManyFailures returns a refusal if too many bad credentials have come from the session's
// address.
func (st *state) tooManyFailures(s *session) error {
	return st.auth.CheckPeer(netip.AddrFrom16(s.peer), s.sharesAddress(), st.loop.Now())
}
