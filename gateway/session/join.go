package session

import (
	"roomcast/gateway/hub"
	"roomcast/proto"
	"roomcast/proto/history"
)

// join makes the session a member of a room. The hub reports the result in a notice. Then the
// method joined or notJoined answers the client.
func (c *commands) join(s *session, cmd *proto.Command) error {
	k := memberKey{s.id, cmd.Room}
	if _, twice := c.joins[k]; twice {
		return proto.Refuse(proto.BadRequest, "the room is being joined already; wait for the answer")
	}
	if head, _, in := c.hub.Head(s.id, cmd.Room); in {
		if c.permissions.lapsed(k, c.loop.Now()) {
			renewals{c.questions}.ask(s, k.room, rejoined(c, k.room, string(cmd.ID)))
			return nil
		}
		j := c.head(s, cmd.Room, head)
		c.send(s, j.AppendJSON(c.ok(cmd.ID)))
		return nil
	}
	if refusal := full(c, s); refusal != nil {
		return refusal
	}
	c.joins[k] = string(cmd.ID)
	from := cmd.From
	c.askJoin(s, cmd.Room, func(s *session, refusal *proto.Refusal) {
		if refusal == nil {
			refusal = full(c, s) // other joins may have come first while the backend was asked
		}
		if refusal != nil {
			command := c.joins[k]
			delete(c.joins, k)
			c.answerRefusal(s, []byte(command), refusal)
			return
		}
		c.hub.Join(s.id, k.room, from)
	})
	return nil
}

// full returns a refusal if the session is in as many rooms as it may be in.
func full(c *commands, s *session) *proto.Refusal {
	if len(c.hub.RoomsOf(s.id)) < c.cfg.MaxRooms {
		return nil
	}
	return proto.Refuse(proto.TooMany, "a session is in at most %d rooms; leave one, or open another connection", c.cfg.MaxRooms)
}

// rejoined returns the function that answers the join of a room that the session is in, when the
// backend has decided again.
func rejoined(c *commands, room proto.Room, id string) func(*session, *proto.Refusal) {
	return func(s *session, refusal *proto.Refusal) {
		head, _, in := c.hub.Head(s.id, room)
		if refusal == nil && !in {
			refusal = proto.Refuse(proto.NotJoined, "you are no longer in the room")
		}
		if refusal != nil {
			c.answerRefusal(s, []byte(id), refusal)
			return
		}
		j := c.head(s, room, head)
		c.send(s, j.AppendJSON(c.ok([]byte(id))))
	}
}

// notJoined answers a join that failed because the gateway cannot follow the room.
func (lc *lifecycle) notJoined(s *session, n hub.Notice) {
	refusal, k := unreadable(n.Err), memberKey{s.id, n.Room}
	delete(lc.permissions.until, k)
	if s.phase == joiningIn || s.kind == events {
		lc.close(s, proto.CloseUnavailable, refusal.Message, proto.LeftServer)
		delete(lc.joins, k)
		return
	}
	cmd := lc.joins[k]
	delete(lc.joins, k)
	lc.answerRefusal(s, []byte(cmd), refusal)
}

// head returns the state of the room that the answer to a join contains.
func (st *state) head(s *session, room proto.Room, head history.Head) proto.Joined {
	j := proto.Joined{Room: room, Seq: head.Seq, Epoch: head.Epoch, At: head.At, Rights: s.grant.Of(room, s.who.ID)}
	if now := st.loop.Now(); head.Limits.Muted(s.who.ID, now) {
		j.Muted, j.Until = true, head.Limits.MutedUntil(s.who.ID, now)
	}
	return j
}
