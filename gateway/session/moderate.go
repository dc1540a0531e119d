package session

import (
	"time"

	"roomcast/gateway/publish"
	"roomcast/proto"
)

// moderate sends an act or an edit to the room's owner. The client needs the right for it, but
// need not be a member of the room.
func (c *commands) moderate(s *session, cmd *proto.Command) error {
	if refusal := proto.CheckSize(len(cmd.Content.Body), c.cfg.MaxMessage); refusal != nil {
		return refusal
	}
	if cmd.Act.HasContent() {
		if refusal := inTurn(c, s, cmd); refusal != nil {
			return refusal
		}
	} else if s.saying >= maxSaying {
		return proto.Refuse(proto.Overloaded, "%d messages wait to be stored; send this again when they have been answered", s.saying).After(time.Second)
	}
	if cmd.Terms.Seq > 0 && cmd.Terms.Epoch == "" {
		_, cmd.Terms.Epoch, _ = c.hub.Head(s.id, cmd.Room)
	}
	c.sayFor(s, cmd.ID, publish.Say{Room: cmd.Room, Act: cmd.Act, Terms: cmd.Terms, Content: cmd.Content, Why: cmd.Why, Key: cmd.Key, Patience: c.cfg.JSONPatience})
	return nil
}
