package session

import "roomcast/proto"

// leave ends the session's membership of a room.
func (c *commands) leave(s *session, cmd *proto.Command) error {
	k := memberKey{s.id, cmd.Room}
	// Without this check, other members would see that the client leaves before they see that it
	// joins.
	if _, waits := c.joins[k]; waits {
		return proto.Refuse(proto.NotJoined, "the room is still being joined; leave it when that has been answered")
	}
	c.hub.Leave(s.id, cmd.Room)
	c.forget(s, cmd.Room)
	c.bridge.Left(cmd.Room, s.who, proto.LeftClient)
	c.send(s, proto.AppendLeave(c.ok(cmd.ID), cmd.Room))
	return nil
}
