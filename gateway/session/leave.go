package session

import "roomcast/proto"

// leave ends the session's membership of a room.
func (c *commands) leave(s *session, cmd *proto.Command) error {
	c.hub.Leave(s.id, cmd.Room)
	c.forget(s, cmd.Room)
	c.bridge.Left(cmd.Room, s.who, proto.LeftClient)
	c.send(s, proto.AppendLeave(c.ok(cmd.ID), cmd.Room))
	return nil
}
