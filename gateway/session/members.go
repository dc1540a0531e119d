package session

import "roomcast/proto"

// members asks all gateways for their members of the room, and answers the command with the
// list.
func (c *commands) members(s *session, cmd *proto.Command) error {
	id, command, room := s.id, string(cmd.ID), cmd.Room
	c.bridge.Members(room, func(count int, list []proto.Member, err error) {
		c.hub.Post(func() {
			s := c.get(id)
			if s == nil || s.phase != open {
				return
			}
			refusal := c.expelled(s, room)
			switch {
			case refusal != nil:
				c.answerRefusal(s, []byte(command), refusal)
			case err != nil:
				c.answerRefusal(s, []byte(command), unreadable(err))
			default:
				m := proto.Members{Room: room, Count: count, List: list}
				c.send(s, m.AppendJSON(c.ok([]byte(command))))
			}
		})
	})
	return nil
}
