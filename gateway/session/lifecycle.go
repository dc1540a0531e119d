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

// memberKey names a membership of a session, or a join that has not been answered.
type memberKey struct {
	id   loop.ID
	room proto.Room
}

// lifecycle checks and ends sessions. The loop owns it.
type lifecycle struct {
	*state

	joins   map[memberKey]string         // ids of commands and answers to handshakes that wait for a Joined notice
	signals map[memberKey]time.Time      // when members of slow rooms sent their last signal
	resends map[memberKey]*limit.Resends // messages that clients have to send again
	waiting map[loop.ID]proto.From       // sessions that must send auth, and where their replay begins
	polls   *polls
}

// close sends everything that is due, and then a close frame.
func (lc *lifecycle) close(s *session, code proto.CloseCode, why string, reason proto.LeaveReason) {
	if why == "" {
		why = code.Meaning()
	}
	lc.end(s, code, why, reason)
}

// end does what close does, but does not replace an empty reason. Code 0 makes an empty close
// frame, which answers an empty one.
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
	// The client chooses its own code, so the code affects neither our metrics nor the log level.
	own := reason != proto.LeftClient
	if own {
		lc.stats.closed(code)
	} else {
		lc.stats.ByClient.Add(1)
	}
	joining := s.phase == joiningIn
	if joining && s.kind == events && (!code.Reconnect() || code == proto.CloseTokenExpired) {
		// A browser reconnects after a stream that has begun, but not after a refusal.
		delete(lc.joins, memberKey{s.id, s.home})
		lc.hub.Gone(s.id)
		lc.refuse(s, &wire.Refusal{Status: refusalOf(code).Status(), Reason: string(proto.AppendClosing(nil, code, why)), JSON: true})
		return
	}
	if joining {
		lc.accept(s) // a browser tells its page close codes, but no HTTP status
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

// accept answers the handshake of a session that has waited for its token or its room. A client
// that has read the answer is shown all later messages. A text session learns in no other way that
// it is in the room.
func (lc *lifecycle) accept(s *session) {
	k := memberKey{s.id, s.home}
	if answer, held := lc.joins[k]; held {
		delete(lc.joins, k)
		lc.hub.Send(s.id, []byte(answer))
	}
}

// refuse answers a request that cannot become a session with a status and one line.
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
	lc.loop.Write(s.id, lc.buf) // the first bytes of a connection fit into its socket's buffer
	lc.closeWrite(s)
}

// closeWrite ends our side once everything has been written. The peer ends its own side, or the
// deadline ends the connection. The loop still reads, even after the peer's close frame: unread
// bytes would make TCP reset the connection, which could discard our close frame.
func (lc *lifecycle) closeWrite(s *session) {
	s.phase = ending
	lc.loop.CloseWrite(s.id)
	lc.loop.SetDeadline(s.id, lc.cfg.CloseTime)
}

// leaveAll reports to the rooms of a session that it leaves.
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

// forget drops what the session keeps for a membership that ends.
func (lc *lifecycle) forget(s *session, room proto.Room) {
	k := memberKey{s.id, room}
	delete(lc.resends, k)
	delete(lc.signals, k)
}

// fail closes a session whose client broke the protocol.
func (lc *lifecycle) fail(s *session, err error) {
	var broken *wire.Error
	if !errors.As(err, &broken) {
		broken = &wire.Error{Close: proto.CloseInternal}
	}
	lc.close(s, broken.Close, broken.Reason, proto.LeftServer)
}

// tooSlow closes a session that does not read. It gives the client only a second to read the close
// frame.
func (lc *lifecycle) tooSlow(s *session) {
	lc.stats.Slow.Add(1)
	lc.close(s, proto.CloseSlow, "", proto.LeftServer)
	lc.loop.SetDeadline(s.id, time.Second)
}

// lost ends a session that would miss events. Err is the reason if it is known.
func (lc *lifecycle) lost(s *session, err error) {
	why := ""
	if err != nil {
		why = unreadable(err).Message
	}
	lc.close(s, proto.CloseResync, why, proto.LeftServer)
}

// roomClosed closes a session that began in the room. Other sessions leave the room.
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

// unreadable returns the refusal for a log that could not be read.
func unreadable(err error) *proto.Refusal {
	if r := proto.AsRefusal(err); r.Code != proto.Internal {
		return r
	}
	return proto.Refuse(proto.Unavailable, "the room's log cannot be reached now; ask again later").After(time.Second)
}

// check handles the deadline of an open session, and sets the next one.
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

// ping sends a ping. A reader of events cannot answer and gets a heartbeat.
func (lc *lifecycle) ping(s *session, now uint32) {
	if s.kind == events {
		s.heard = now
	} else {
		s.pinged = now
	}
	lc.buf = lc.codecs[formatOf(s)].AppendPing(lc.buf[:0])
	lc.hub.Send(s.id, lc.buf)
	lc.stats.Pings.Add(1)
}

// tokenCheck is how often a session compares the end of its token with the wall clock, because
// somebody may set that clock.
const tokenCheck = time.Minute

// arm sets the deadline of an open session: the earliest time at which check has something to do.
func (lc *lifecycle) arm(s *session) {
	now := lc.second()
	left := func(since uint32, limit time.Duration) time.Duration {
		return max(time.Second, limit-time.Duration(now-since)*time.Second)
	}
	next := left(s.heard, lc.cfg.PingAfter)
	if s.pinged != 0 { // a pong moves no deadline, so the next ping may be due first
		next = left(s.pinged, min(lc.cfg.PongTime, lc.cfg.PingAfter))
	}
	if s.partial != 0 {
		next = min(next, left(s.partial, lc.cfg.MessageTime))
	}
	if s.expires != 0 {
		next = min(next, tokenCheck, time.Unix(int64(s.expires), 0).Sub(lc.loop.Now()))
	}
	if _, blocked := lc.hub.Stuck(s.id); blocked {
		next = min(next, time.Second)
	}
	if s.paused&pauseRate != 0 {
		next = min(next, time.Duration(int32(s.wakeMs-lc.ms()))*time.Millisecond)
	}
	lc.loop.SetDeadline(s.id, next)
}

// awaitRest starts the time limit of an incomplete message. Rest says that unused bytes wait; a
// message in fragments may be incomplete without any.
func (lc *lifecycle) awaitRest(s *session, rest bool) {
	if s.partial == 0 && s.paused == 0 && (rest || s.reader.Partial()) {
		s.partial = lc.second()
		lc.arm(s)
	}
}
