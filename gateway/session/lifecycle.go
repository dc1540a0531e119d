package session

import (
	"errors"
	"fmt"
	"time"

	"roomcast/gateway/hub"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// memberKey identifies a session's membership of a room. While a join waits for its answer, it
// identifies the join.
type memberKey struct {
	id   loop.ID
	room proto.Room
}

// lifecycle watches over the deadlines of sessions and ends sessions. The loop owns it.
type lifecycle struct {
	*state
	permissions permissions

	joins   map[memberKey]string         // joins that wait for an answer: the id of the command, or the bytes that answer the handshake
	signals map[memberKey]time.Time      // when each member of a slow room sent its last signal
	resends map[memberKey]*limit.Resends // the messages that a client must send again, for each membership
	waiting map[loop.ID]proto.From       // the sessions that must send auth, each with the position where its replay begins
	polls   *polls

	// authIDs contains the ids of auth commands that hello answers, by session. After hello, the
	// session gets an ok with this id.
	authIDs map[loop.ID]string
}

// close sends the bytes that wait for the session, and then a close frame. If the argument why
// is empty, the frame contains the meaning of the code instead.
func (lc *lifecycle) close(s *session, code proto.CloseCode, why string, reason proto.LeaveReason) {
	if why == "" {
		why = code.Meaning()
	}
	lc.end(s, code, why, reason)
}

// end is like close, but does not replace an empty why. With code 0 it sends an empty close
// frame, which answers an empty close frame of the client.
func (lc *lifecycle) end(s *session, code proto.CloseCode, why string, reason proto.LeaveReason) {
	if s.phase == ending {
		return
	}
	if s.kind == poll {
		refusal := proto.Refuse(refusalOf(code), "%s", why)
		if refusal.Code == proto.Unavailable {
			refusal = refusal.After(time.Second)
		}
		lc.polls.answer(s, nil, refusal)
		return
	}
	// If the client closes, it chooses the code. Such a code must neither count in our metrics
	// nor raise the log level.
	own := reason != proto.LeftClient
	if own {
		lc.stats.closed(code)
	} else {
		lc.stats.ByClient.Add(1)
	}
	joining := s.phase == joiningIn
	if joining && s.kind == events && (!code.Reconnect() || code == proto.CloseTokenExpired) {
		// A browser reconnects after the end of a stream, but not after a refused request. Here
		// reconnecting would not help, so refuse the request.
		delete(lc.joins, memberKey{s.id, s.home})
		lc.leaveAll(s, reason)
		lc.hub.Gone(s.id)
		lc.refuse(s, &wire.Refusal{Status: refusalOf(code).Status(), Reason: string(proto.AppendClosing(nil, code, why)), JSON: true})
		return
	}
	if joining {
		lc.accept(s) // a browser shows its page a close code, but not an HTTP status
	}
	lc.leaveAll(s, reason)
	if lc.verbose || own && (code == proto.CloseFlood || code == proto.CloseSlow) {
		lc.log(s).Info("session closed", "code", int(code), "name", code.String(), "reason", string(reason))
	}
	s.phase = ending
	if s.paused != 0 {
		s.paused = 0
		lc.loop.Resume(s.id)
	}
	lc.hub.Close(s.id, code, why)
	lc.loop.SetDeadline(s.id, lc.cfg.CloseTime)
}

// closeCode returns the close code that corresponds to the code of a refusal.
func closeCode(code proto.Code) proto.CloseCode {
	switch code {
	case proto.RoomClosed:
		return proto.CloseRoomClosed
	case proto.TooLarge:
		return proto.CloseTooBig
	case proto.Overloaded:
		return proto.CloseShed
	case proto.Unavailable:
		return proto.CloseUnavailable
	case proto.Internal:
		return proto.CloseInternal
	case proto.Forbidden:
		return proto.CloseForbidden
	case proto.CodeBanned:
		return proto.CloseBanned
	}
	return proto.ClosePolicy
}

// refusalOf returns the code of the HTTP refusal that corresponds to a close code.
func refusalOf(code proto.CloseCode) proto.Code {
	switch code {
	case proto.CloseBadToken, proto.CloseTokenExpired, proto.CloseNoToken:
		return proto.Unauthorized
	case proto.CloseBanned:
		return proto.CodeBanned
	}
	if code.Reconnect() {
		return proto.Unavailable
	}
	return proto.Forbidden
}

// accept sends the answer to the handshake. The gateway holds the answer back until the session
// has joined the room of its URL, or is about to be closed. From the answer, a text session
// learns that it is in the room. It expects to receive all messages from then on.
func (lc *lifecycle) accept(s *session) {
	k := memberKey{s.id, s.home}
	if answer, held := lc.joins[k]; held {
		delete(lc.joins, k)
		lc.hub.Send(s.id, []byte(answer))
	}
}

// refuse answers a request that does not become a session. The answer has an HTTP status and one
// line of text. Then refuse ends the connection.
func (lc *lifecycle) refuse(s *session, err error) {
	var plain *wire.Refusal
	if !errors.As(err, &plain) {
		r := proto.AsRefusal(err)
		plain = &wire.Refusal{Status: r.Code.Status(), Reason: r.Message}
	}
	if st := lc.streams[s.id]; st != nil {
		plain.Origin = st.origin
	}
	lc.stats.Refused.Add(1)
	if lc.verbose {
		lc.log(s).Debug("handshake refused", "status", plain.Status, "why", plain.Reason)
	}
	lc.buf = wire.AppendRefusal(lc.buf[:0], plain)
	lc.loop.Write(s.id, lc.buf) // nothing was written before, so the send buffer has space for the whole answer
	lc.closeWrite(s)
}

// closeWrite closes our side of the connection after all bytes have been written. Then the peer
// closes its side, or the deadline ends the connection. Meanwhile the loop reads and discards
// what the peer sends. Without this reading, TCP would reset the connection, and the peer might
// not receive our close frame.
func (lc *lifecycle) closeWrite(s *session) {
	s.phase = ending
	lc.loop.CloseWrite(s.id)
	lc.loop.SetDeadline(s.id, lc.cfg.CloseTime)
}

// leaveAll reports to all rooms of a session that its client leaves.
func (lc *lifecycle) leaveAll(s *session, reason proto.LeaveReason) {
	for _, room := range lc.hub.RoomsOf(s.id) {
		k := memberKey{s.id, room}
		_, waits := lc.joins[k]
		delete(lc.joins, k)
		lc.forget(s, room)
		if !waits && s.phase == open {
			lc.bridge.Left(room, s.who, reason)
		}
	}
}

// forget deletes the data that belongs to a membership that ends.
func (lc *lifecycle) forget(s *session, room proto.Room) {
	k := memberKey{s.id, room}
	delete(lc.resends, k)
	delete(lc.signals, k)
	delete(lc.permissions.until, k)
}

// fail closes a session because of an error in the client's bytes.
func (lc *lifecycle) fail(s *session, err error) {
	var broken *wire.Error
	if !errors.As(err, &broken) {
		broken = &wire.Error{Close: proto.CloseInternal}
	}
	lc.close(s, broken.Close, broken.Reason, proto.LeftServer)
}

// tooSlow closes a session whose client does not read. The client has only one second to read the
// close frame.
func (lc *lifecycle) tooSlow(s *session) {
	lc.stats.Slow.Add(1)
	lc.close(s, proto.CloseSlow, "", proto.LeftServer)
	lc.loop.SetDeadline(s.id, time.Second)
}

// lost closes a session that would otherwise miss events without knowing it. The parameter err is
// the cause, or nil if the cause is not known.
func (lc *lifecycle) lost(s *session, err error) {
	why := ""
	if err != nil {
		why = unreadable(err).Message
	}
	lc.close(s, proto.CloseResync, why, proto.LeftServer)
}

// roomClosed handles the close of a room for one of its members. It closes a session whose URL
// names the room. Any other session only leaves the room.
func (lc *lifecycle) roomClosed(s *session, n hub.Notice) {
	if n.Room == s.home {
		lc.close(s, proto.CloseRoomClosed, closedReason(n.Why), proto.LeftServer)
		return
	}
	lc.hub.Leave(s.id, n.Room)
	lc.forget(s, n.Room)
	lc.bridge.Left(n.Room, s.who, proto.LeftServer)
	lc.endEmpty(s, proto.CloseRoomClosed, closedReason(n.Why))
}

func closedReason(why string) string { return because(proto.CloseRoomClosed.Meaning(), why) }

// unreadable returns the refusal for an error that a read of the log has returned.
func unreadable(err error) *proto.Refusal {
	if r := proto.AsRefusal(err); r.Code != proto.Internal {
		return r
	}
	return proto.Refuse(proto.Unavailable, "the room's log cannot be reached now; ask again later").After(time.Second)
}

// check runs at the deadline of an open session. It finds the time limits that have passed, acts
// on them, and sets the next deadline.
func (lc *lifecycle) check(s *session) {
	now := lc.second()
	if s.paused&pauseRate != 0 && int32(lc.ms()-s.wakeMs) >= 0 {
		lc.release(s, pauseRate)
	}
	if stuck, blocked := lc.hub.Stuck(s.id); blocked && stuck >= lc.cfg.SlowTime {
		lc.tooSlow(s)
		return
	}
	if s.expires != 0 && lc.loop.Now().Unix() >= int64(s.expires) {
		lc.close(s, proto.CloseTokenExpired, "", proto.LeftServer)
		return
	}
	past := func(since uint32, limit time.Duration) bool {
		return since != 0 && time.Duration(now-since)*time.Second >= limit
	}
	switch {
	case s.paused != 0:
	case past(s.partial, lc.cfg.MessageTime):
		lc.close(s, proto.ClosePolicy, fmt.Sprintf("a message was not complete within %v", lc.cfg.MessageTime), proto.LeftServer)
		return
	case past(s.pinged, lc.cfg.PongTime):
		lc.close(s, proto.CloseNoPong, "", proto.LeftLost)
		return
	case s.pinged == 0 && past(s.heard, lc.cfg.PingAfter):
		lc.ping(s, now)
	}
	lc.arm(s)
}

// ping sends a ping. A reader of events cannot answer a ping, so it gets a heartbeat instead.
func (lc *lifecycle) ping(s *session, now uint32) {
	if s.kind == events {
		s.heard = now
	} else {
		s.pinged = now
	}
	lc.buf = lc.codecs[s.format].AppendPing(lc.buf[:0])
	lc.hub.Send(s.id, lc.buf)
	lc.stats.Pings.Add(1)
}

// tokenCheck is how often a session compares the end of its token with the wall clock. The clock
// may be set at any time, so a deadline at the end of the token would not be enough.
const tokenCheck = time.Minute

// arm sets the deadline of an open session to the earliest time at which check has something to
// do.
func (lc *lifecycle) arm(s *session) {
	now := lc.second()
	left := func(since uint32, limit time.Duration) time.Duration {
		return max(time.Second, limit-time.Duration(now-since)*time.Second)
	}
	next := left(s.heard, lc.cfg.PingAfter)
	if s.pinged != 0 { // a pong does not move the deadline, so set it no later than the next ping
		next = left(s.pinged, min(lc.cfg.PongTime, lc.cfg.PingAfter))
	}
	if s.partial != 0 {
		next = min(next, left(s.partial, lc.cfg.MessageTime))
	}
	if s.expires != 0 {
		next = min(next, tokenCheck, time.Unix(int64(s.expires), 0).Sub(lc.loop.Now()))
	}
	if lapses, ends := lc.permissions.lapses[s.id]; ends {
		next = min(next, tokenCheck, lapses.Sub(lc.loop.Now()))
	}
	if _, blocked := lc.hub.Stuck(s.id); blocked {
		next = min(next, time.Second)
	}
	if s.paused&pauseRate != 0 {
		next = min(next, time.Duration(int32(s.wakeMs-lc.ms()))*time.Millisecond)
	}
	lc.loop.SetDeadline(s.id, next)
}

// awaitRest starts the time limit of a message that is incomplete. The parameter rest is true if
// there are unused bytes. A message that the client sends in fragments can be incomplete even
// without unused bytes.
func (lc *lifecycle) awaitRest(s *session, rest bool) {
	if s.partial == 0 && s.paused == 0 && (rest || s.reader.Partial()) {
		s.partial = lc.second()
		lc.arm(s)
	}
}
