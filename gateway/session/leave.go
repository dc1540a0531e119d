package session

import "roomcast/proto"

// leave ends the session's membership of a room.
func (c *commands) leave(s *session, cmd *proto.Command) error {
	k := memberKey{s.id, cmd.Room}
	// While the join waits, no other member has been told of it. So a leave now would reach the
	// other members before the join.
	if _, waits := c.joins[k]; waits {
		return proto.Refuse(proto.NotJoined, "the room is still being joined; leave it when that has been answered")
	}
	c.hub.Leave(s.id, cmd.Room)
	c.forget(s, cmd.Room)
	c.bridge.Left(cmd.Room, s.who, proto.LeftClient)
	c.send(s, proto.AppendLeave(c.ok(cmd.ID), cmd.Room))
	return nil
}
