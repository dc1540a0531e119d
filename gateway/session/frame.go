package session

import (
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// commands handle the frames of open sessions. The loop owns them.
type commands struct {
	*questions
	handshakes *handshakes
	inflater   wire.Inflater
}

// frame handles one frame of an open session.
func (c *commands) frame(s *session, f *wire.Frame) {
	switch f.Op {
	case wire.OpPing:
		if !s.conformance() {
			c.slowDown(s)
		}
		c.buf = wire.AppendFrame(c.buf[:0], wire.OpPong, f.Payload)
		c.hub.Send(s.id, c.buf)
		c.checkQueue(s)
	case wire.OpPong:
	case wire.OpClose:
		c.end(s, f.Close, "", proto.LeftClient)
	default:
		c.stats.Messages.Add(1)
		if s.phase == unnamed {
			c.firstFrame(s, f)
			return
		}
		wait, ok := c.charge(s)
		if !ok { // refuse it before doing any work for the message
			c.close(s, proto.CloseFlood, "", proto.LeftServer)
			return
		}
		payload := f.Payload
		if f.Deflated {
			var err error
			if payload, err = c.inflater.Inflate(*f, c.limitsOf(s)); err != nil {
				c.fail(s, err)
				return
			}
		}
		c.message(s, f.Op, payload, wait)
		c.checkQueue(s)
	}
}

// message handles one message of the client. If the parameter wait is not 0, the client has
// exceeded its rate, and a command is refused.
func (c *commands) message(s *session, op wire.Op, payload []byte, wait time.Duration) {
	switch {
	case s.kind == echo:
		c.buf = wire.AppendFrame(c.buf[:0], op, payload)
		c.hub.Send(s.id, c.buf)
	case s.kind == jsonKind && op == wire.OpBinary:
		c.close(s, proto.CloseUnsupported, "a JSON session takes text frames; bytes go into say as bin", proto.LeftServer)
	case s.kind == jsonKind:
		c.command(s, payload, wait)
	case op == wire.OpBinary:
		c.sayText(s, proto.Content{Kind: proto.Bin, Body: payload})
	default:
		c.sayText(s, proto.Content{Kind: proto.Text, Body: payload})
	}
}

// charge limits the commands of a JSON session with two token buckets. A command takes a token
// from the first. If the first is empty, charge returns the time until the next token, and the
// caller must refuse the command.
//
// Each refusal takes a token from the second bucket. It contains five bursts and refills at a
// quarter of the rate. If it is empty too, ok is false, and the caller must close the session.
// With the default rate, a client that sends twice as much as allowed is closed about 13 s after
// its first refusal. A flood is closed at once.
func (c *commands) charge(s *session) (wait time.Duration, ok bool) {
	if s.kind != jsonKind {
		return 0, true // messages of a text session cannot be refused; see slowDown
	}
	r := c.cfg.Rate
	if wait = s.bucket.Take(c.ms(), r); wait == 0 {
		wait = c.senderWait(s)
	}
	if wait == 0 {
		return 0, true
	}
	refusals := limit.Rate{PerSecond: r.PerSecond / 4, Burst: 5 * max(r.Burst, 20)}
	return wait, s.errors.Take(c.ms(), refusals) == 0
}

// senderWait takes a token from the bucket that all connections of one user share. If the bucket
// is empty, senderWait returns the time until the next token. It does not limit guests, because a
// guest gets a new id with every new connection.
func (st *state) senderWait(s *session) time.Duration {
	if s.flags&(hasToken|admitted) == 0 || st.cfg.Rates == nil {
		return 0
	}
	return st.cfg.Rates.Take(s.who.ID, st.cfg.Rate, st.loop.Now())
}

// slowDown takes a token for a message of a text session or for a ping. The gateway cannot refuse
// these. If there is no token, it stops reading the session until some tokens have come back.
//
// Pauses that follow each other within floodPause form a series. When a series has lasted for
// FloodTime, the gateway closes the session. So a client that sends a little more than --rate is
// only slowed down. A client that sends twice as much is closed after FloodTime.
func (c *commands) slowDown(s *session) {
	now := c.ms()
	wait := s.bucket.Take(now, c.cfg.Rate)
	if wait == 0 {
		wait = c.senderWait(s)
	}
	if wait == 0 {
		return
	}
	s.bucket.Owe()
	if s.flooded == 0 || time.Duration(now-s.wakeMs)*time.Millisecond > floodPause {
		s.flooded = c.second()
	}
	if c.second()-s.flooded > uint32(c.cfg.FloodTime/time.Second) {
		c.close(s, proto.CloseFlood, "", proto.LeftServer)
		return
	}
	// The loop's deadlines are coarse, so one pause waits for several tokens.
	s.wakeMs = now + uint32(max(wait, 250*time.Millisecond)/time.Millisecond)
	c.hold(s, pauseRate)
	c.arm(s)
}

const floodPause = 2 * time.Second

// conformance reports whether the session belongs to a protocol test suite. The rate of such
// sessions is not limited.
func (s *session) conformance() bool { return s.kind >= verbatim }
