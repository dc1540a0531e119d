package session

import "roomcast/proto"

// signal sends something to the members that are present. It is not stored.
func (c *commands) signal(s *session, cmd *proto.Command) error {
	if refusal := proto.CheckSize(len(cmd.Content.Body), c.cfg.MaxMessage); refusal != nil {
		return refusal
	}
	c.bridge.Signal(cmd.Room, proto.AppendSignal(nil, cmd.Room, cmd.Content.Type, s.who, cmd.Content.Body), c.hub.Session(s.id))
	c.send(s, append(c.ok(cmd.ID), "{}"...))
	return nil
}
