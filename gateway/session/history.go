package session

import (
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

const (
	defaultHistory = 50       // events of a page if the command does not say how many
	maxPage        = 96 << 10 // the most bytes of events in one answer
)

// history reads one page of a room's log. Until the page is queued, the gateway does not read
// from the session. So a client gets its pages one by one.
func (c *commands) history(s *session, cmd *proto.Command) error {
	q := history.Query{
		Room: cmd.Room, Before: cmd.Before, Since: cmd.From.Since, HasSince: cmd.From.HasSince,
		Epoch: cmd.From.Epoch, At: cmd.From.At, Limit: cmd.Limit, Bytes: maxPage,
	}
	if q.Limit == 0 {
		q.Limit = defaultHistory
	}
	id, command, room := s.id, string(cmd.ID), cmd.Room
	c.hold(s, pausePage)
	c.bridge.Read(q, func(page reads.Page, err error) {
		c.hub.Post(func() {
			defer page.Release()
			s := c.get(id)
			if s == nil || s.phase != open {
				return
			}
			refusal := c.expelled(s, room)
			if refusal == nil && err != nil {
				refusal = unreadable(err)
			}
			if refusal == nil { // the page may show a ban whose event has not arrived yet
				refusal = c.banned(s, page.Head.Limits)
			}
			if refusal != nil {
				c.answerRefusal(s, []byte(command), refusal)
			} else {
				c.send(s, page.Answer(room).AppendJSON(c.ok([]byte(command))))
			}
			c.checkQueue(s)
			c.release(s, pausePage)
		})
	})
	return nil
}
