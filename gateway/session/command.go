package session

import (
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/publish"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// joining names a membership of a session, also one whose join has not been answered.
type joining struct {
	id   loop.ID
	room proto.Room
}

// command takes one frame of a JSON session. Whatever it holds is answered. If wait is
// not 0, the answer is that the command came too early by that time.
func (ss *Sessions) command(s *session, frame []byte, wait time.Duration) {
	c, err := proto.ParseCommand(frame)
	if wait > 0 {
		why := proto.Refuse(proto.RateLimited,
			"this is too fast; %v commands a second are taken, send this one again later", ss.cfg.Rate.PerSecond).After(wait)
		if err == nil && c.Verb == proto.VerbSay {
			why = ss.resendLater(s, &c, why)
		}
		ss.answerRefusal(s, c.ID, why)
		return
	}
	if err == nil {
		err = ss.obey(s, &c)
	}
	if err != nil {
		ss.answerRefusal(s, c.ID, proto.AsRefusal(err))
	}
}

// obey does what a command asks for. Either it returns a refusal or the answer is
// given, now or later.
func (ss *Sessions) obey(s *session, c *proto.Command) error {
	rule := c.Verb.Rule()
	if rule.Room && c.Room.IsZero() {
		if c.Room = s.home; s.home.IsZero() {
			return proto.Refuse(proto.BadRequest, `name the room: {"%s":{"room":"lobby"}}`, c.Verb)
		}
	}
	if rule.Right == proto.RightModerate {
		return proto.Refuse(proto.Forbidden, "moderation is for the operator: POST /api/rooms/{room}/close or /reopen")
	}
	if rule.Member && !ss.hub.In(s.id, c.Room) {
		return proto.Refuse(proto.NotJoined, `join the room first: {"join":{"room":"%s"}}`, c.Room)
	}
	switch c.Verb {
	case proto.VerbAuth:
		return ss.authenticate(s, c)
	case proto.VerbPing:
		ss.send(s, append(ss.ok(c.ID), "{}"...))
		return nil
	case proto.VerbJoin:
		return ss.join(s, c)
	case proto.VerbSay:
		return ss.sayJSON(s, c)
	case proto.VerbLeave:
		// Those present would hear of the leaving first, and then of a join that is none.
		if _, waits := ss.joins[joining{s.id, c.Room}]; waits {
			return proto.Refuse(proto.NotJoined, "the room is still being joined; leave it when that has been answered")
		}
		ss.hub.Leave(s.id, c.Room)
		delete(ss.resends, joining{s.id, c.Room})
		ss.bridge.Left(c.Room, s.who, proto.LeftClient)
		ss.send(s, proto.AppendLeave(ss.ok(c.ID), c.Room))
		return nil
	case proto.VerbSignal:
		if refusal := proto.CheckSize(len(c.Content.Body), ss.cfg.MaxMessage); refusal != nil {
			return refusal
		}
		ss.bridge.Signal(c.Room, proto.AppendSignal(nil, c.Room, c.Content.Type, s.who, c.Content.Body), ss.hub.Session(s.id))
		ss.send(s, append(ss.ok(c.ID), "{}"...))
		return nil
	case proto.VerbHistory:
		return ss.history(s, c)
	case proto.VerbMembers:
		return ss.members(s, c)
	}
	return proto.Refuse(proto.Unsupported, "%s is not done here", c.Verb)
}

func (ss *Sessions) join(s *session, c *proto.Command) error {
	if head, in := ss.hub.Head(s.id, c.Room); in {
		ss.send(s, appendJoined(ss.ok(c.ID), c.Room, head))
		return nil
	}
	j := joining{s.id, c.Room}
	if _, twice := ss.joins[j]; twice {
		return proto.Refuse(proto.BadRequest, "the room is being joined already; wait for the answer")
	}
	if n := len(ss.hub.RoomsOf(s.id)); n >= ss.cfg.MaxRooms {
		return proto.Refuse(proto.TooMany, "a session is in at most %d rooms; leave one, or open another connection", ss.cfg.MaxRooms)
	}
	ss.joins[j] = string(c.ID)
	ss.hub.Join(s.id, c.Room, c.From)
	return nil
}

func (ss *Sessions) sayJSON(s *session, c *proto.Command) error {
	if refusal := proto.CheckSize(len(c.Content.Body), ss.cfg.MaxMessage); refusal != nil {
		return refusal
	}
	j := joining{s.id, c.Room}
	if r := ss.resends[j]; r != nil {
		if why := r.Check(c.Key, ss.loop.Now()); why != nil {
			return why
		}
	}
	if s.saying >= maxSaying {
		return ss.resendLater(s, c, proto.Refuse(proto.Overloaded,
			"%d messages wait to be stored; send this one again when they have been answered", s.saying).After(time.Second))
	}
	if r := ss.resends[j]; r != nil {
		if r.Taken(c.Key); r.Empty(ss.loop.Now()) {
			delete(ss.resends, j)
		}
	}
	id, cmd := s.id, string(c.ID)
	ss.say(s, publish.Say{Room: c.Room, Content: c.Content, Line: c.Line, Key: c.Key, Patience: ss.cfg.JSONPatience}, func(reply proto.Reply) {
		s := ss.get(id)
		switch {
		case s == nil || s.phase != open:
		case reply.Close != 0:
			ss.close(s, reply.Close, "", proto.LeftServer)
		case reply.Refusal != nil:
			ss.answerRefusal(s, []byte(cmd), reply.Refusal)
		default:
			ss.send(s, reply.AppendAck(ss.ok([]byte(cmd))))
		}
	})
	return nil
}

// resendLater returns the refusal for a message that has to come again, and has the later
// ones in its room wait for it.
func (ss *Sessions) resendLater(s *session, c *proto.Command, why *proto.Refusal) *proto.Refusal {
	j := joining{s.id, c.Room}
	if c.Room.IsZero() {
		j.room = s.home
	}
	if c.Key == "" || !ss.hub.In(s.id, j.room) {
		return why
	}
	r := ss.resends[j]
	if r == nil {
		r = new(limit.Resends)
		ss.resends[j] = r
	}
	return r.Refused(c.Key, why, ss.loop.Now())
}

// say has the room's owner store a message; done runs on the loop with the outcome.
func (ss *Sessions) say(s *session, say publish.Say, done func(proto.Reply)) {
	id := s.id
	s.saying++
	say.From, say.Stream = s.who, s.kind == jsonKind
	ss.bridge.Say(say, func(reply proto.Reply) {
		ss.hub.Post(func() {
			if s := ss.get(id); s != nil {
				s.saying--
			}
			if reply.Refusal != nil {
				ss.stats.refusal(reply.Refusal.Code)
			}
			done(reply)
		})
	})
}

const (
	defaultHistory = 50       // events
	maxPage        = 96 << 10 // bytes of events in one answer
)

func (ss *Sessions) history(s *session, c *proto.Command) error {
	q := history.Query{
		Room: c.Room, Before: c.Before, Since: c.From.Since, HasSince: c.From.HasSince,
		Epoch: c.From.Epoch, At: c.From.At, Limit: c.Limit, Bytes: maxPage,
	}
	if q.Limit == 0 {
		q.Limit = defaultHistory
	}
	id, cmd, room := s.id, string(c.ID), c.Room
	// One page at a time: whoever asks for many gets each when the one before is on its way.
	ss.hold(s, pausePage)
	ss.bridge.Read(q, func(page reads.Page, err error) {
		ss.hub.Post(func() {
			defer page.Release()
			s := ss.get(id)
			if s == nil || s.phase != open {
				return
			}
			if err != nil {
				ss.answerRefusal(s, []byte(cmd), unread(err))
			} else {
				ss.send(s, page.Answer(room).AppendJSON(ss.ok([]byte(cmd))))
			}
			ss.checkQueue(s)
			ss.release(s, pausePage)
		})
	})
	return nil
}

// unread is the refusal for a log that could not be read.
func unread(err error) *proto.Refusal {
	if r := proto.AsRefusal(err); r.Code != proto.Internal {
		return r
	}
	return proto.Refuse(proto.Unavailable, "the room's log cannot be reached now; ask again later").After(time.Second)
}

func (ss *Sessions) members(s *session, c *proto.Command) error {
	id, cmd, room := s.id, string(c.ID), c.Room
	ss.bridge.Members(room, func(count int, list []proto.Identity, err error) {
		ss.hub.Post(func() {
			s := ss.get(id)
			switch {
			case s == nil || s.phase != open:
			case err != nil:
				ss.answerRefusal(s, []byte(cmd), unread(err))
			default:
				m := proto.Members{Room: room, Count: count, List: list}
				ss.send(s, m.AppendJSON(ss.ok([]byte(cmd))))
			}
		})
	})
	return nil
}

// authenticate takes a fresh token of the same identity, so that a session outlives
// the token it began with.
func (ss *Sessions) authenticate(s *session, c *proto.Command) error {
	who, expires, err := ss.auth.Token(c.Token)
	switch {
	case err != nil:
		return err
	case who.ID != s.who.ID:
		return proto.Refuse(proto.Forbidden, "the token is somebody else's; open another connection for it")
	}
	s.expires = secondOf(expires)
	ss.arm(s)
	b := append(ss.ok(c.ID), `{"you":`...)
	ss.send(s, append(s.who.AppendJSON(b), '}'))
	return nil
}

// ok begins the answer to a command. One JSON value follows, then send closes it.
func (ss *Sessions) ok(id []byte) []byte { return proto.AppendOK(ss.buf[:0], id) }

func (ss *Sessions) answerRefusal(s *session, id []byte, r *proto.Refusal) {
	ss.stats.refusal(r.Code)
	ss.buf = proto.AppendError(ss.buf[:0], id, r)
	ss.hub.Text(s.id, ss.buf)
}

// send completes an answer that was begun with a brace and queues it.
func (ss *Sessions) send(s *session, b []byte) {
	ss.buf = append(b, '}')
	ss.hub.Text(s.id, ss.buf)
}

func joined(room proto.Room, head history.Head) proto.Joined {
	return proto.Joined{Room: room, Seq: head.Seq, Epoch: head.Epoch, At: head.At}
}

func appendJoined(b []byte, room proto.Room, head history.Head) []byte {
	j := joined(room, head)
	return j.AppendJSON(b)
}
