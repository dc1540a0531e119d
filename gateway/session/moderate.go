package session

import (
	"time"

	"roomcast/gateway/publish"
	"roomcast/proto"
)

// moderate has the room's owner store an act. It needs the right, not a membership.
func (c *commands) moderate(s *session, cmd *proto.Command) error {
	if s.saying >= maxSaying {
		return proto.Refuse(proto.Overloaded, "%d messages wait to be stored; send this again when they have been answered", s.saying).After(time.Second)
	}
	c.sayFor(s, cmd.ID, publish.Say{Room: cmd.Room, Act: cmd.Act, Terms: cmd.Terms, Why: cmd.Why, Key: cmd.Key, Patience: c.cfg.JSONPatience})
	return nil
}
