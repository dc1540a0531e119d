package session

import (
	"time"

	"roomcast/proto"
)

// command answers one frame of a JSON session, even an invalid one. If the parameter wait is not
// 0, the client has exceeded its rate. Then command refuses the frame and tells the client to
// wait that long.
func (c *commands) command(s *session, frame []byte, wait time.Duration) {
	cmd, err := proto.ParseCommand(frame)
	first := s.flags&commanded == 0
	s.flags |= commanded
	if wait > 0 {
		why := proto.Refuse(proto.RateLimited,
			"too many commands; at most %v per second are accepted, so send this one again later", c.cfg.Rate.PerSecond).After(wait)
		if err == nil && cmd.Verb == proto.VerbSay {
			why = c.resendLater(s, &cmd, why)
		}
		c.answerRefusal(s, cmd.ID, why)
		return
	}
	if err == nil {
		if err = c.dispatch(s, &cmd, first); err != nil {
			c.auditRefused(s, &cmd, err)
		}
	}
	if err != nil {
		c.answerRefusal(s, cmd.ID, proto.AsRefusal(err))
	}
}

// dispatch executes a command. It either returns a refusal, or answers the command itself, now or
// later. The parameter first is true for the first command of the session.
//
// dispatch checks the client's right before its membership. In the other order, a client without
// rights could learn something about the room from the refusal.
func (c *commands) dispatch(s *session, cmd *proto.Command, first bool) error {
	rule := cmd.Verb.Rule()
	if rule.Room && cmd.Room.IsZero() {
		if cmd.Room = s.home; s.home.IsZero() {
			return proto.Refuse(proto.BadRequest, `name the room: {"%s":{"room":"lobby"}}`, cmd.Verb)
		}
	}
	if rule.Room {
		right := rule.Right
		if cmd.Act != "" {
			right = cmd.Act.Permits(s.grant.Of(cmd.Room, s.who.ID))
		}
		if refusal := c.forbidden(s, cmd.Room, right); refusal != nil {
			return refusal
		}
	}
	if rule.Member {
		// While a join waits for its answer, it may still be refused, and no other member knows of it.
		_, waits := c.joins[memberKey{s.id, cmd.Room}]
		switch {
		case waits:
			return proto.Refuse(proto.NotJoined, "the room is still being joined; wait for the answer to the join")
		case c.hub.In(s.id, cmd.Room):
		case cmd.Verb == proto.VerbLeave:
			return proto.Refuse(proto.NotJoined, "you are not in the room %s", cmd.Room)
		default:
			return proto.Refuse(proto.NotJoined, `join the room first: {"join":{"room":"%s"}}`, cmd.Room)
		}
	}
	if cmd.Act != "" {
		return c.moderate(s, cmd)
	}
	switch cmd.Verb {
	case proto.VerbAuth:
		return c.authenticate(s, cmd, first)
	case proto.VerbPing:
		c.send(s, append(c.ok(cmd.ID), "{}"...))
		return nil
	case proto.VerbJoin:
		return c.join(s, cmd)
	case proto.VerbSay:
		return c.sayJSON(s, cmd)
	case proto.VerbLeave:
		return c.leave(s, cmd)
	case proto.VerbSignal:
		return c.signal(s, cmd)
	case proto.VerbHistory:
		return c.history(s, cmd)
	case proto.VerbMembers:
		return c.members(s, cmd)
	}
	return proto.Refuse(proto.Unsupported, "%s is not supported here", cmd.Verb)
}
