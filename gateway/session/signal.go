package session

import (
	"bytes"
	"cmp"
	"time"

	"roomcast/gateway/backend"
	"roomcast/proto"
)

// signal sends content to the present members of a room. If there is a backend, signal first
// asks the backend whether to allow the content. Signals are not stored.
func (c *commands) signal(s *session, cmd *proto.Command) error {
	if refusal := proto.CheckSize(len(cmd.Content.Body), c.cfg.MaxMessage); refusal != nil {
		return refusal
	}
	if refusal := c.silenced(s, cmd.Room); refusal != nil {
		return refusal
	}
	room, command := cmd.Room, cmd.ID
	send := func(s *session, content proto.Content) {
		c.bridge.Signal(room, proto.AppendSignal(nil, room, content.Type, s.who, content.Body), c.hub.Session(s.id))
		c.send(s, append(c.ok(command), "{}"...))
	}
	if !c.backend.Asks(backend.Say) {
		send(s, cmd.Content)
		return nil
	}
	if s.saying >= maxSaying {
		return proto.Refuse(proto.Overloaded, "%d messages wait to be stored; send this again when they have been answered", s.saying).After(time.Second)
	}
	id, content := s.id, cmd.Content
	command, content.Body = bytes.Clone(command), bytes.Clone(content.Body)
	s.saying++
	after := func(do func(*session)) {
		if s := c.get(id); s != nil {
			s.saying--
			if s.phase == open {
				do(s)
			}
		}
	}
	c.enqueue(s, room, content, proto.VerbSignal, func(answer proto.Content) {
		after(func(s *session) {
			if refusal := c.expelled(s, room); refusal != nil {
				c.answerRefusal(s, command, refusal)
				return
			}
			answer.Type = cmp.Or(answer.Type, content.Type)
			send(s, answer)
		})
	}, func(refusal *proto.Refusal) {
		after(func(s *session) { c.answerRefusal(s, command, refusal) })
	})
	return nil
}

// silenced returns a refusal if a member may not send a signal now. Signals do not go through the
// room's owner. So the gateway itself applies bans, mutes and the slow mode.
func (lc *lifecycle) silenced(s *session, room proto.Room) *proto.Refusal {
	head, _, _ := lc.hub.Head(s.id, room)
	now := lc.loop.Now()
	if refusal := lc.banned(s, head.Limits); refusal != nil {
		return refusal
	}
	if muted := head.Limits.CheckMute(s.who.ID, proto.IsGuest(s.who.ID), now); muted != nil {
		return muted
	}
	every := head.Limits.Interval()
	if every == 0 || s.grant.Of(room, s.who.ID).Allow(proto.RightModerate) {
		return nil
	}
	k := memberKey{s.id, room}
	last, sent := lc.signals[k]
	if wait := every - now.Sub(last); sent && wait > 0 {
		return proto.Refuse(proto.RateLimited, "this room is slow: a member may send one signal in %v", every).After(wait)
	}
	lc.signals[k] = now
	return nil
}
