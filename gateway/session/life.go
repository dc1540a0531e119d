package session

import (
	"fmt"
	"time"

	"roomcast/gateway/hub"
	"roomcast/gateway/loop"
	"roomcast/proto"
)

// OnNotice implements [hub.Sessions].
func (ss *Sessions) OnNotice(id loop.ID, n hub.Notice) {
	s := ss.get(id)
	if s == nil {
		delete(ss.joins, joining{id, n.Room})
		return
	}
	if s.phase == ending {
		if n.Kind == hub.Drained {
			ss.hangUp(s)
		}
		return
	}
	switch n.Kind {
	case hub.Joined:
		ss.joined(s, n)
	case hub.Refused:
		ss.notJoined(s, n)
	case hub.Closed:
		ss.roomClosed(s, n)
	case hub.Lost:
		ss.lost(s, n.Err)
	case hub.Slow:
		ss.tooSlow(s)
	case hub.Blocked:
		ss.arm(s)
	case hub.Drained:
		ss.release(s, pauseQueue)
	}
}

// joined answers a join, be it by a command or by the path.
func (ss *Sessions) joined(s *session, n hub.Notice) {
	atHome := s.phase == joiningIn && n.Room == s.home
	if atHome {
		ss.accept(s)
	}
	j := joining{s.id, n.Room}
	cmd, asked := ss.joins[j]
	delete(ss.joins, j)
	switch {
	case n.Head.Closed && atHome:
		ss.close(s, proto.CloseRoomClosed, closedReason(n.Head.Why), proto.LeftServer)
		return
	case n.Head.Closed:
		ss.hub.Leave(s.id, n.Room)
		ss.answerRefusal(s, []byte(cmd), proto.Refuse(proto.RoomClosed, "%s", closedReason(n.Head.Why)))
		return
	case atHome:
		s.phase = open
		s.home = ss.hub.Name(n.Room)
		if s.kind == jsonKind {
			ss.hello(s, n)
		} else if s.kind == text && ss.cfg.Greeting != "" {
			ss.hub.Text(s.id, []byte(ss.cfg.Greeting))
		}
		ss.release(s, pauseJoin)
		ss.arm(s)
	case asked:
		ss.send(s, appendJoined(ss.ok([]byte(cmd)), n.Room, n.Head))
	default:
		return
	}
	ss.bridge.Joined(n.Room, s.who)
}

func (ss *Sessions) notJoined(s *session, n hub.Notice) {
	refusal := unread(n.Err)
	if s.phase == joiningIn {
		ss.close(s, proto.CloseUnavailable, refusal.Message, proto.LeftServer)
		return
	}
	j := joining{s.id, n.Room}
	cmd := ss.joins[j]
	delete(ss.joins, j)
	ss.answerRefusal(s, []byte(cmd), refusal)
}

// roomClosed ends what the room was: the whole session where it was made for the room,
// otherwise the membership.
func (ss *Sessions) roomClosed(s *session, n hub.Notice) {
	if n.Room == s.home {
		ss.close(s, proto.CloseRoomClosed, closedReason(n.Why), proto.LeftServer)
		return
	}
	ss.hub.Leave(s.id, n.Room)
	delete(ss.resends, joining{s.id, n.Room})
	ss.bridge.Left(n.Room, s.who, proto.LeftServer)
}

// lost ends a session that would miss events. Err is the reason if it is known.
func (ss *Sessions) lost(s *session, err error) {
	why := ""
	if err != nil {
		why = unread(err).Message
	}
	ss.close(s, proto.CloseResync, why, proto.LeftServer)
}

func closedReason(why string) string {
	if why == "" {
		return "the room has been closed"
	}
	return "the room has been closed: " + why
}

// tooSlow closes a session that will hardly read the close frame.
func (ss *Sessions) tooSlow(s *session) {
	ss.stats.Slow.Add(1)
	ss.close(s, proto.CloseSlow, "", proto.LeftServer)
	ss.loop.SetDeadline(s.id, time.Second)
}

// close sends what is due and then a close frame.
func (ss *Sessions) close(s *session, code proto.CloseCode, why string, reason proto.LeaveReason) {
	if why == "" {
		why = code.Meaning()
	}
	ss.end(s, code, why, reason)
}

// end is close without adding a reason; code 0 makes an empty close frame, the answer
// to one.
func (ss *Sessions) end(s *session, code proto.CloseCode, why string, reason proto.LeaveReason) {
	if s.phase == ending {
		return
	}
	// A client chooses its code, but neither a metric of ours nor the level of a log line.
	own := reason != proto.LeftClient
	if own {
		ss.stats.closed(code)
	} else {
		ss.stats.ByClient.Add(1)
	}
	if s.phase == joiningIn {
		ss.accept(s) // a browser shows its page no other answer than a close code
	}
	ss.leaveAll(s, reason)
	if ss.verbose || own && (code == proto.CloseFlood || code == proto.CloseSlow) {
		ss.log(s).Info("session closed", "code", int(code), "name", code.String(), "reason", string(reason))
	}
	s.phase = ending
	if s.paused != 0 {
		s.paused = 0
		ss.loop.Resume(s.id)
	}
	ss.hub.Close(s.id, code, why)
	ss.loop.SetDeadline(s.id, ss.cfg.CloseTime)
}

// hangUp ends our side once everything has been written. The peer ends its own, or is
// cut off. What it still sends is read, even behind its close frame: unread bytes would
// make TCP reset the connection and perhaps take our close frame away.
func (ss *Sessions) hangUp(s *session) {
	s.phase = ending
	ss.loop.CloseWrite(s.id)
	ss.loop.SetDeadline(s.id, ss.cfg.CloseTime)
}

// leaveAll tells the rooms a session is in that it goes.
func (ss *Sessions) leaveAll(s *session, reason proto.LeaveReason) {
	for _, room := range ss.hub.RoomsOf(s.id) {
		j := joining{s.id, room}
		_, waits := ss.joins[j]
		delete(ss.joins, j)
		delete(ss.resends, j)
		if !waits && s.phase == open {
			ss.bridge.Left(room, s.who, reason)
		}
	}
}

// Due implements [loop.Handler].
func (ss *Sessions) Due(id loop.ID) {
	s := ss.get(id)
	if s == nil {
		return
	}
	switch s.phase {
	case handshake:
		ss.refuse(s, proto.Refuse(proto.BadRequest, "the request did not come within %v", ss.cfg.HandshakeTime))
		ss.loop.Close(id) // nothing is unread, so the refusal arrives: the descriptor is worth more than a farewell
	case joiningIn:
		ss.close(s, proto.CloseUnavailable, "the room cannot be reached now; reconnect later", proto.LeftServer)
	case ending:
		ss.loop.Close(id)
	case open:
		ss.check(s)
	}
}

// check looks after an open session whose deadline has come.
func (ss *Sessions) check(s *session) {
	now := ss.second()
	if s.paused&pauseRate != 0 && int32(ss.ms()-s.wakeMs) >= 0 {
		ss.release(s, pauseRate)
	}
	if stuck, blocked := ss.hub.Stuck(s.id); blocked && stuck >= ss.cfg.SlowTime {
		ss.tooSlow(s)
		return
	}
	if s.expires != 0 && ss.loop.Now().Unix() >= int64(s.expires) {
		ss.close(s, proto.CloseTokenExpired, "", proto.LeftServer)
		return
	}
	past := func(since uint32, limit time.Duration) bool {
		return since != 0 && time.Duration(now-since)*time.Second >= limit
	}
	switch {
	case s.paused != 0:
	case past(s.partial, ss.cfg.MessageTime):
		ss.close(s, proto.ClosePolicy, fmt.Sprintf("a message was not complete within %v", ss.cfg.MessageTime), proto.LeftServer)
		return
	case past(s.pinged, ss.cfg.PongTime):
		ss.close(s, proto.CloseNoPong, "", proto.LeftLost)
		return
	case s.pinged == 0 && past(s.heard, ss.cfg.PingAfter):
		s.pinged = now
		ss.buf = ss.codecs[formatOf(s)].AppendPing(ss.buf[:0])
		ss.hub.Send(s.id, ss.buf)
		ss.stats.Pings.Add(1)
	}
	ss.arm(s)
}

// tokenCheck is how often the end of a token is compared with the wall clock, which may
// have been set.
const tokenCheck = time.Minute

// arm sets the deadline of an open session: the earliest of all that check looks after.
func (ss *Sessions) arm(s *session) {
	now := ss.second()
	left := func(since uint32, limit time.Duration) time.Duration {
		return max(time.Second, limit-time.Duration(now-since)*time.Second)
	}
	next := left(s.heard, ss.cfg.PingAfter)
	if s.pinged != 0 { // a pong moves no deadline, so the next ping may be due first
		next = left(s.pinged, min(ss.cfg.PongTime, ss.cfg.PingAfter))
	}
	if s.partial != 0 {
		next = min(next, left(s.partial, ss.cfg.MessageTime))
	}
	if s.expires != 0 {
		next = min(next, tokenCheck, time.Unix(int64(s.expires), 0).Sub(ss.loop.Now()))
	}
	if _, blocked := ss.hub.Stuck(s.id); blocked {
		next = min(next, time.Second)
	}
	if s.paused&pauseRate != 0 {
		next = min(next, time.Duration(int32(s.wakeMs-ss.ms()))*time.Millisecond)
	}
	ss.loop.SetDeadline(s.id, next)
}

// Drain closes at most n sessions as going away and returns how many remain. New ones
// must not come any more. A session whose turn it is and that waits to hear what became
// of a message is read no more, and closed when it is called again and has heard.
func (ss *Sessions) Drain(n int) (left int) {
	ss.draining = true
	for _, chunk := range ss.slab {
		for i := range chunk {
			s := &chunk[i]
			switch {
			case s.id == 0 || s.phase == ending:
			case n <= 0:
				left++
			case s.phase == handshake:
				ss.refuse(s, proto.Refuse(proto.Unavailable, "this gateway stops; try again"))
				n--
			case s.saying > 0:
				ss.hold(s, pauseDrain)
				left++
			default:
				ss.close(s, proto.CloseGoingAway, "", proto.LeftServer)
				n--
			}
		}
	}
	return left
}
