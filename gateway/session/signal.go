package session

import (
	"bytes"
	"cmp"
	"time"

	"roomcast/gateway/backend"
	"roomcast/proto"
)

// signal sends something to the members that are present, once the backend allows it. It is
// not stored.
func (c *commands) signal(s *session, cmd *proto.Command) error {
	if refusal := proto.CheckSize(len(cmd.Content.Body), c.cfg.MaxMessage); refusal != nil {
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
	c.enqueue(s, room, content, true, func(answer proto.Content) {
		after(func(s *session) {
			if answer.Kind != "" && answer.Kind != proto.Data {
				c.answerRefusal(s, command, proto.Refuse(proto.Unavailable, "the application answered a signal with a message"))
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
