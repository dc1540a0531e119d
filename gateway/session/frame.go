package session

import (
	"errors"
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/publish"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// frame takes one frame of an open session.
func (ss *Sessions) frame(s *session, f *wire.Frame) {
	switch f.Op {
	case wire.OpPing:
		if !ss.conformance(s) {
			ss.slowDown(s)
		}
		ss.buf = wire.AppendPong(ss.buf[:0], f.Payload)
		ss.hub.Send(s.id, ss.buf)
		ss.checkQueue(s)
	case wire.OpPong:
	case wire.OpClose:
		ss.end(s, f.Close, "", proto.LeftClient)
	default:
		ss.stats.Messages.Add(1)
		wait, ok := ss.charge(s)
		if !ok { // before anything is spent on what it sent
			ss.close(s, proto.CloseFlood, "", proto.LeftServer)
			return
		}
		payload := f.Payload
		if f.Deflated {
			var err error
			if payload, err = ss.inflater.Inflate(*f, ss.limitsOf(s)); err != nil {
				ss.fail(s, err)
				return
			}
		}
		ss.message(s, f.Op, payload, wait)
		ss.checkQueue(s)
	}
}

// message takes one message. A command whose wait is not 0 is refused for going too fast.
func (ss *Sessions) message(s *session, op wire.Op, payload []byte, wait time.Duration) {
	switch {
	case s.kind == echo:
		ss.buf = wire.AppendHeader(ss.buf[:0], op, len(payload))
		ss.buf = append(ss.buf, payload...)
		ss.hub.Send(s.id, ss.buf)
	case s.kind == jsonKind && op == wire.OpBinary:
		ss.close(s, proto.CloseUnsupported, "a JSON session takes text frames; bytes go into say as bin", proto.LeftServer)
	case s.kind == jsonKind:
		ss.command(s, payload, wait)
	case op == wire.OpBinary:
		ss.sayText(s, proto.Content{Kind: proto.Bin, Body: payload})
	default:
		ss.sayText(s, proto.Content{Kind: proto.Text, Body: payload})
	}
}

// maxSaying is how many messages of one session may wait to be stored. A text session
// is not read meanwhile, a JSON session's next one is refused as overloaded.
const maxSaying = 32

// sayText says what a text session sent. It has been read and there is no way to
// refuse it, so if it cannot be stored the session is closed.
func (ss *Sessions) sayText(s *session, content proto.Content) {
	if !ss.conformance(s) {
		ss.slowDown(s)
		if s.phase != open {
			return
		}
	}
	id := s.id
	ss.say(s, publish.Say{Room: s.home, Content: content, Line: content.Kind == proto.Text, Patience: ss.cfg.TextPatience}, func(reply proto.Reply) {
		s := ss.get(id)
		if s == nil || s.phase != open {
			return
		}
		if s.saying < maxSaying/2 {
			ss.release(s, pauseSays)
		}
		if code, why := outcome(reply); code != 0 {
			ss.close(s, code, why, proto.LeftServer)
		}
	})
	if s.saying >= maxSaying {
		ss.hold(s, pauseSays)
	}
}

// outcome returns how a text session ends with the given reply; 0 = it goes on.
func outcome(reply proto.Reply) (proto.CloseCode, string) {
	switch {
	case reply.Close != 0:
		return reply.Close, ""
	case reply.Refusal == nil:
		return 0, ""
	}
	code := proto.ClosePolicy
	switch reply.Refusal.Code {
	case proto.RoomClosed:
		code = proto.CloseRoomClosed
	case proto.TooLarge:
		code = proto.CloseTooBig
	case proto.Overloaded:
		code = proto.CloseShed
	case proto.Unavailable:
		code = proto.CloseUnavailable
	case proto.Internal:
		code = proto.CloseInternal
	}
	return code, reply.Refusal.Message
}

// charge takes a token for a command of a JSON session, and returns how long the client
// should have waited for it. Refusals have a bucket of their own, of five bursts, that
// refills at a quarter of the rate. It is empty, and ok false, some 13 s after a client
// began to send twice as much as allowed, and at once after it began to flood.
func (ss *Sessions) charge(s *session) (wait time.Duration, ok bool) {
	if s.kind != jsonKind {
		return 0, true // text cannot be refused; see slowDown
	}
	r := ss.cfg.Rate
	if wait = s.bucket.Take(ss.ms(), r); wait == 0 {
		return 0, true
	}
	refusals := limit.Rate{PerSecond: r.PerSecond / 4, Burst: 5 * max(r.Burst, 20)}
	return wait, s.errors.Take(ss.ms(), refusals) == 0
}

// slowDown charges a session for something that cannot be refused: at its limit it is
// not read until some tokens have come back. A session that is held again within
// floodPause of being let go, over and over for FloodTime, is closed. So a client that
// sends a little more than --rate is only slowed down, and one that sends twice as much
// is closed after FloodTime.
func (ss *Sessions) slowDown(s *session) {
	now := ss.ms()
	wait := s.bucket.Take(now, ss.cfg.Rate)
	if wait == 0 {
		return
	}
	s.bucket.Owe()
	if s.flooded == 0 || time.Duration(now-s.wakeMs)*time.Millisecond > floodPause {
		s.flooded = ss.second()
	}
	if ss.second()-s.flooded > uint32(ss.cfg.FloodTime/time.Second) {
		ss.close(s, proto.CloseFlood, "", proto.LeftServer)
		return
	}
	// Deadlines are coarse: one wait is for several tokens.
	s.wakeMs = now + uint32(max(wait, 250*time.Millisecond)/time.Millisecond)
	ss.hold(s, pauseRate)
	ss.arm(s)
}

const floodPause = 2 * time.Second

// checkQueue stops reading a session that does not read what it asks for.
func (ss *Sessions) checkQueue(s *session) {
	if s.phase == open && ss.hub.Due(s.id) > ss.cfg.Hub.QueueBytes/4 {
		ss.hold(s, pauseQueue)
		ss.hub.TellDrained(s.id)
	}
}

// conformance reports whether the session is one of a protocol test suite, which has
// no limits of rate.
func (ss *Sessions) conformance(s *session) bool { return s.kind >= verbatim }

// fail closes a session whose peer broke the protocol.
func (ss *Sessions) fail(s *session, err error) {
	var broken *wire.Error
	if !errors.As(err, &broken) {
		broken = &wire.Error{Close: proto.CloseInternal}
	}
	ss.close(s, broken.Close, broken.Reason, proto.LeftServer)
}
