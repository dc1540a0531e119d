package session

import (
	"time"

	"roomcast/gateway/backend"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/publish"
	"roomcast/proto"
	"roomcast/proto/daemon"
)

// maxSaying is how many messages of one session may wait to be stored. At this number, the
// gateway stops reading a text session. It answers further messages of a JSON session with the
// refusal overloaded.
const maxSaying = 32

// sayText stores a message of a text session. The text protocol has no refusals, so a refused
// message closes the session.
func (c *commands) sayText(s *session, content proto.Content) {
	if !s.conformance() {
		c.slowDown(s)
		if s.phase != open {
			return
		}
	}
	if refusal := c.forbidden(s, s.home, proto.RightSay); refusal != nil {
		c.closeRefused(s, refusal)
		return
	}
	id := s.id
	c.say(s, publish.Say{Room: s.home, Content: content, Line: content.Kind == proto.Text, Patience: c.cfg.TextPatience}, func(reply proto.Reply) {
		s := c.get(id)
		if s == nil || s.phase != open {
			return
		}
		if s.saying < maxSaying/2 {
			c.release(s, pauseSays)
		}
		if reply.Refusal != nil {
			c.stats.refusal(reply.Refusal.Code)
			c.closeRefused(s, reply.Refusal)
		} else if reply.Close != 0 {
			c.close(s, reply.Close, "", proto.LeftServer)
		}
	})
	if s.saying >= maxSaying {
		c.hold(s, pauseSays)
	}
}

// sayJSON stores a message of a JSON session and answers it.
func (c *commands) sayJSON(s *session, cmd *proto.Command) error {
	if refusal := proto.CheckSize(len(cmd.Content.Body), c.cfg.MaxMessage); refusal != nil {
		return refusal
	}
	if refusal := inTurn(c, s, cmd); refusal != nil {
		return refusal
	}
	c.sayFor(s, cmd.ID, publish.Say{Room: cmd.Room, Content: cmd.Content, Line: cmd.Line, Key: cmd.Key, Patience: c.cfg.JSONPatience})
	return nil
}

// inTurn returns a refusal if a message or an edit must wait: for an earlier message that the client
// has to send again first, or because too many are waiting to be stored.
func inTurn(c *commands, s *session, cmd *proto.Command) *proto.Refusal {
	k := c.resendKey(s, cmd.Room)
	r := c.resends[k]
	if r != nil {
		if why := r.Check(cmd.Key, c.loop.Now()); why != nil {
			return why
		}
	}
	if s.saying >= maxSaying {
		why := proto.Refuse(proto.Overloaded,
			"%d messages wait to be stored; send this one again when they have been answered", s.saying).After(time.Second)
		if cmd.Verb == proto.VerbSay {
			why = c.resendLater(s, cmd, why)
		}
		return why
	}
	if r != nil {
		if r.Taken(cmd.Key); r.Empty(c.loop.Now()) {
			delete(c.resends, k)
		}
	}
	return nil
}

// sayFor stores say and then answers the command, whose id is cmdID.
func (c *commands) sayFor(s *session, cmdID []byte, say publish.Say) {
	id, command, act := s.id, string(cmdID), c.actOf(s, &say)
	c.say(s, say, func(reply proto.Reply) {
		daemon.AuditReply(c.cfg.Log, act, &reply)
		s := c.get(id)
		switch {
		case s == nil || s.phase != open:
		case reply.Close != 0:
			c.close(s, reply.Close, "", proto.LeftServer)
		case reply.Refusal != nil:
			c.answerRefusal(s, []byte(command), reply.Refusal)
		default:
			c.send(s, reply.AppendAck(c.ok([]byte(command))))
		}
	})
}

// resendLater returns a copy of the refusal why, for a command with a message. The copy also
// tells the client to send the message again. Until the client has done so, the gateway refuses
// the client's later messages in this room. Otherwise they would be stored before this one.
func (c *commands) resendLater(s *session, cmd *proto.Command, why *proto.Refusal) *proto.Refusal {
	room := cmd.Room
	if room.IsZero() { // the command was refused before dispatch
		room = s.home
	}
	return c.resendIn(s, room, cmd.Key, why)
}

// resendIn is like resendLater, for a message with the given key in the given room.
func (c *commands) resendIn(s *session, room proto.Room, key string, why *proto.Refusal) *proto.Refusal {
	if key == "" {
		return why
	}
	k := c.resendKey(s, room)
	r := c.resends[k]
	if r == nil {
		r = new(limit.Resends)
		c.resends[k] = r
	}
	return r.Refused(key, why, c.loop.Now())
}

// resendKey returns the key in the map resends for a session and a room. All rooms that the
// session is not in share one key. So the session cannot make the map grow by naming many rooms.
func (c *commands) resendKey(s *session, room proto.Room) memberKey {
	if !c.hub.In(s.id, room) {
		room = proto.Room{}
	}
	return memberKey{s.id, room}
}

// say sends a message to the room's owner. If there is a backend, say first asks the backend
// whether to allow the message. The function done runs on the loop, with the owner's reply or a
// refusal.
func (c *commands) say(s *session, say publish.Say, done func(proto.Reply)) {
	s.saying++
	say.From, say.Rights, say.Stream = s.who, s.grant.Of(say.Room, s.who.ID), s.kind == jsonKind
	if say.Act.HasContent() && c.backend.Asks(backend.Say) {
		c.askSay(s, say, done)
		return
	}
	c.publish(s.id, say, done)
}

// publish sends a message or act to the room's owner.
func (c *commands) publish(id loop.ID, say publish.Say, done func(proto.Reply)) {
	c.bridge.Say(say, func(reply proto.Reply) {
		c.hub.Post(func() { c.said(id, reply, done) })
	})
}

// said ends the wait of a session for the reply to a message or act, and passes the reply to
// done.
func (c *commands) said(id loop.ID, reply proto.Reply, done func(proto.Reply)) {
	if s := c.get(id); s != nil {
		s.saying--
	}
	done(reply)
}
