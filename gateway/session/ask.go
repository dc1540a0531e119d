package session

import (
	"bytes"
	"strings"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/publish"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/grant"
)

// asked is what a session has asked the backend. The loop owns it.
type asked struct {
	pass     auth.Pass         // what the backend has allowed; Until of connect is zero if it ends with the session
	answered bool              // pass.Rooms is the answer to connect
	unasked  bool              // nobody answered, and --ask-fail allows that
	headers  map[string]string // of the handshake
	says     []*asking         // in their order; the first is being asked
}

// questions ask the backend and keep its answers. The loop owns them.
type questions struct {
	*lifecycle
	asked    map[loop.ID]*asked // by session; empty without a backend and tickets
	families map[loop.ID]string // the session of the first resume string, of sessions that came with one
}

// maxAskHeaders bounds the headers that a session keeps for the backend, in bytes.
const maxAskHeaders = 8 << 10

// askHeaders returns the headers of a handshake that the backend is told. A cookie counts only
// from a page that may use it.
func (h *handshakes) askHeaders(req *wire.Request, site auth.Site) (headers map[string]string) {
	left := maxAskHeaders
	for _, name := range h.backend.Headers() {
		value := req.Header(name)
		if value == "" || len(value) > left || strings.EqualFold(name, "cookie") && !h.cookieCounts(req, site) {
			continue
		}
		if headers == nil {
			headers = make(map[string]string)
		}
		headers[name] = strings.ToValidUTF8(value, "\uFFFD")
		left -= len(value)
	}
	return headers
}

// introduced reports whether a session without a token can show the backend who it is.
func (qs *questions) introduced(s *session) bool {
	a := qs.asked[s.id]
	return a != nil && (len(a.headers) > 0 || !a.pass.Until.IsZero())
}

// usePass reads what an earlier session was allowed out of a resume string. Without a token it
// also says who the client is; the error is the refusal of one that has been revoked, or that
// needs its token.
func (qs *questions) usePass(s *session, resume string) error {
	token := ""
	if s.flags&hasToken != 0 {
		token = s.who.ID
	}
	if a := qs.asked[s.id]; a != nil {
		a.pass.Token = token
	}
	pass, err := qs.auth.ReadPass(resume, token)
	if err == auth.ErrPass && token == "" {
		return err
	}
	if err != nil {
		return nil
	}
	for _, id := range []string{pass.Who.ID, pass.Token} {
		if err := qs.auth.Revoked().Check(id, pass.Family, pass.Issued); err != nil {
			if token != "" { // the token still counts
				err = nil
			}
			return err
		}
	}
	if pass.Family != "" {
		qs.families[s.id] = pass.Family
	}
	holds := pass.Ticket || qs.backend.Asks(backend.Connect)
	if token == "" && !holds && !auth.IsGuest(pass.Who) {
		return auth.ErrPass
	}
	if token == "" {
		s.who, s.issued = pass.Who, secondOf(pass.Issued)
		s.iat = s.issued
	}
	if !holds {
		pass.Until, pass.Rooms = time.Time{}, nil
	}
	if pass.Empty(qs.loop.Now()) {
		return nil
	}
	qs.remember(s).pass = *pass
	if !pass.Until.IsZero() && token == "" && !auth.IsGuest(pass.Who) {
		s.flags |= admitted
	}
	return nil
}

// remember returns what is kept about the session.
func (qs *questions) remember(s *session) *asked {
	a := qs.asked[s.id]
	if a == nil {
		a = new(asked)
		qs.asked[s.id] = a
	}
	return a
}

// redeem uses a ticket, which decides who the session is, with which rights and until when.
// Done runs on the loop, unless the session has ended by then.
func (qs *questions) redeem(s *session, ticket string, done func(*session, error)) {
	qs.withKey(s, ticket, func(s *session, err error) {
		var t *auth.Ticket
		if err == nil {
			t, err = qs.auth.ReadTicket(ticket)
		}
		if err != nil {
			done(s, err)
			return
		}
		qs.markTicket(s, t, done)
	})
}

// withKey calls then when the key that has signed a resume string or ticket is known, or when
// roomsvc does not know it either. Then runs at once or later, unless the session has ended by
// then, and with an error if roomsvc cannot be asked.
func (qs *questions) withKey(s *session, signed string, then func(*session, error)) {
	if qs.auth.KnowsKeyOf(signed) {
		then(s, nil)
		return
	}
	id := s.id
	qs.bridge.RefreshKeys(func(err error) {
		qs.hub.Post(func() {
			s := qs.get(id)
			if s == nil || s.phase == ending {
				return
			}
			if err != nil {
				err = auth.KeyUnknown()
			}
			then(s, err)
		})
	})
}

// markTicket marks a ticket as used, and uses it.
func (qs *questions) markTicket(s *session, t *auth.Ticket, done func(*session, error)) {
	id := s.id
	qs.bridge.UseTicket(t.Number, func(first bool, err error) {
		qs.hub.Post(func() {
			s := qs.get(id)
			switch {
			case s == nil || s.phase == ending:
			case err != nil || !first:
				done(s, auth.TicketRefusal(err == nil))
			default:
				done(s, qs.useTicket(s, t))
			}
		})
	})
}

// useTicket makes the session that of the ticket. A ticket for a running session renews it.
func (qs *questions) useTicket(s *session, t *auth.Ticket) error {
	if err := qs.auth.Revoked().Check(t.Who.ID, "", t.Issued); err != nil {
		return err
	}
	a := qs.remember(s)
	if s.flags&admitted != 0 && (!a.pass.Ticket || a.pass.Issuer != t.Issuer || s.who.ID != t.Who.ID) || s.flags&hasToken != 0 {
		return proto.Refuse(proto.Forbidden, "the ticket is of another id or issuer; open another connection for it")
	}
	joins := a.pass.Joins
	a.pass, a.answered = t.Pass(), true
	a.pass.Joins = joins
	s.iat = secondOf(t.Issued)
	if s.expires = 0; s.flags&admitted == 0 {
		s.issued = 0
	}
	qs.keepAnswer(s)
	return nil
}

// permit asks the backend whether the session may begin, unless its pass says so, and calls
// then. It closes a session that may not begin.
func (qs *questions) permit(s *session, then func(*session)) {
	a := qs.asked[s.id]
	switch {
	case a != nil && !a.pass.Until.IsZero():
		s.who, a.answered = a.pass.Who, true
		qs.keepAnswer(s)
		then(s)
		return
	case !qs.backend.Asks(backend.Connect):
		then(s)
		return
	}
	qs.ask(s, backend.Connect, proto.Room{}, func(s *session, answer backend.Answer, refusal *proto.Refusal) {
		if refusal != nil {
			qs.refuseAsked(s, refusal)
			return
		}
		if answer.Who.ID != "" {
			s.who.ID = answer.Who.ID
		}
		if answer.Who.Name != "" {
			s.who.Name = answer.Who.Name
		}
		if err := qs.auth.Revoked().Check(s.who.ID, "", time.Unix(int64(s.iat), 0)); err != nil {
			qs.refuseToken(s, err)
			return
		}
		a.pass.Who, a.pass.Rooms, a.pass.Until = s.who, answer.Rooms, answer.Until
		a.answered, a.unasked, a.pass.Issued = true, answer.Unasked, qs.loop.Now()
		qs.keepAnswer(s)
		then(s)
	})
}

// keepAnswer gives a session the rights that both its token and the answer to connect give.
// The session ends with the earlier of both.
func (qs *questions) keepAnswer(s *session) {
	a := qs.asked[s.id]
	if a == nil || !a.answered {
		return
	}
	if a.unasked {
		s.grant = s.grant.Within(grant.Everywhere(proto.MayRead | proto.MaySay))
		return
	}
	var own *grant.Grant
	if s.flags&hasToken != 0 {
		own = s.grant
	}
	if s.who = a.pass.Who; own == nil && !auth.IsGuest(s.who) {
		s.flags |= admitted
	}
	s.grant, _ = qs.auth.GrantOf(a.pass.Rooms, own) // it has been parsed before
	if until := secondOf(a.pass.Until); !a.pass.Until.IsZero() && (s.expires == 0 || until < s.expires) {
		s.expires = until
	}
}

// tokenID returns the id in the token of a session. The backend may have given it another.
func (qs *questions) tokenID(s *session) string {
	if p := qs.polls.waiting[s.id]; p != nil && p.Token != "" {
		return p.Token
	}
	if a := qs.asked[s.id]; a != nil && a.pass.Token != "" {
		return a.pass.Token
	}
	return s.who.ID
}

// resumeOf returns the string with which the client is the same sender in its next session,
// and need not ask again.
func (qs *questions) resumeOf(s *session) string {
	p := auth.Pass{Issued: time.Unix(int64(s.issued), 0)}
	if a := qs.asked[s.id]; a != nil {
		issued := p.Issued
		if p = a.pass; auth.IsGuest(s.who) {
			p.Issued = issued
		}
	}
	if p.Who, p.Family = s.who, qs.family(s); s.flags&hasToken != 0 {
		p.Token = qs.tokenID(s)
	}
	return qs.auth.SignPass(&p)
}

// family returns the session of the first string from which the client's resume string follows.
func (qs *questions) family(s *session) string {
	if p := qs.polls.waiting[s.id]; p != nil {
		return p.Family
	}
	if family, has := qs.families[s.id]; has {
		return family
	}
	return qs.hub.Session(s.id)
}

// revoke ends the sessions whose credentials have been revoked.
func (qs *questions) revoke(list []proto.Revocation) {
	ids, families := make(map[string]*proto.Revocation), make(map[string]*proto.Revocation)
	for i := range list {
		if e := &list[i]; e.ID != "" {
			ids[e.ID] = e
		} else {
			families[e.Session] = e
		}
	}
	qs.each(func(s *session) {
		if s.flags&upgraded == 0 || s.phase == ending {
			return
		}
		e := ids[s.who.ID]
		if e == nil && len(ids) > 0 {
			e = ids[qs.tokenID(s)]
		}
		if e != nil && int64(s.iat)*1000 >= e.At {
			e = nil
		}
		if e == nil && len(families) > 0 {
			if e = families[qs.family(s)]; e == nil {
				e = families[qs.hub.Session(s.id)]
			}
		}
		if e != nil {
			err := auth.RevokedRefusal(e)
			qs.close(s, auth.CloseCode(err), proto.AsRefusal(err).Message, proto.LeftServer)
		}
	})
}

// passedRoom returns the new resume string after a join that the backend allowed until some
// time, otherwise "".
func (qs *questions) passedRoom(s *session, room proto.Room) string {
	if a := qs.asked[s.id]; a == nil || !a.pass.MayJoin(room, qs.loop.Now()) {
		return ""
	}
	return qs.resumeOf(s)
}

// askJoin asks the backend whether the session may join a room, unless its pass says so. Done
// runs with a refusal or nil, unless the session has ended.
func (qs *questions) askJoin(s *session, room proto.Room, done func(*session, *proto.Refusal)) {
	a := qs.asked[s.id]
	if !qs.backend.Asks(backend.Join) || a.pass.MayJoin(room, qs.loop.Now()) {
		done(s, nil)
		return
	}
	qs.ask(s, backend.Join, room, func(s *session, answer backend.Answer, refusal *proto.Refusal) {
		if refusal == nil && !answer.Until.IsZero() {
			a.pass.Allow(room, answer.Until, qs.loop.Now())
		}
		done(s, refusal)
	})
}

// ask asks the backend. Done runs on the loop, unless the session has ended by then.
func (qs *questions) ask(s *session, kind backend.Kind, room proto.Room, done func(*session, backend.Answer, *proto.Refusal)) {
	id := s.id
	q := qs.question(s, kind, room)
	qs.backend.Ask(&q, func(answer backend.Answer, err error) {
		qs.hub.Post(func() {
			if s := qs.get(id); s != nil && s.phase != ending {
				done(s, answer, refusalIn(err))
			} else {
				delete(qs.joins, memberKey{id, room})
			}
		})
	})
}

func refusalIn(err error) *proto.Refusal {
	if err == nil {
		return nil
	}
	return proto.AsRefusal(err)
}

func (qs *questions) question(s *session, kind backend.Kind, room proto.Room) backend.Question {
	return backend.Question{Kind: kind, Session: qs.hub.Session(s.id), Who: s.who, Room: room, Headers: qs.asked[s.id].headers}
}

// refuseAsked closes a session that the backend does not let begin.
func (qs *questions) refuseAsked(s *session, refusal *proto.Refusal) {
	code, _ := outcome(proto.Reply{Refusal: refusal})
	qs.close(s, code, refusal.Message, proto.LeftServer)
}

// asking is a message or a signal that waits for the backend. Later ones of the session wait
// behind it.
type asking struct {
	question backend.Question
	size     int // bytes of memory
	allowed  func(proto.Content)
	refused  func(*proto.Refusal)
}

// askSay asks the backend about a message and publishes what it allows.
func (c *commands) askSay(s *session, say publish.Say, done func(proto.Reply)) {
	id := s.id
	sent := say.Content
	sent.Body = bytes.Clone(sent.Body)
	c.enqueue(s, say.Room, sent, false, func(content proto.Content) {
		if say.Act == proto.ActEdit && content.Kind != proto.Text {
			c.said(id, proto.Reply{Refusal: proto.Refuse(proto.Unavailable, "the application answered an edit without a text")}, done)
			return
		}
		say.Content, say.Sent = content, &sent
		c.publish(id, say, done)
	}, func(refusal *proto.Refusal) {
		if s := c.get(id); s != nil && refusal.Temporary() {
			refusal = c.resendIn(s, say.Room, say.Key, refusal)
		}
		c.said(id, proto.Reply{Refusal: refusal}, done)
	})
}

// enqueue asks the backend about content once it has answered what the session said before. It
// keeps the body.
func (qs *questions) enqueue(s *session, room proto.Room, content proto.Content, signal bool, allowed func(proto.Content), refused func(*proto.Refusal)) {
	a := qs.asked[s.id]
	w := &asking{question: qs.question(s, backend.Say, room), size: 2 * len(content.Body), allowed: allowed, refused: refused}
	if !qs.cfg.Hub.Memory.Take(limit.Says, w.size) {
		w.size = 0
		refused(proto.Refuse(proto.Overloaded, "this gateway has too much to ask; send it again").After(time.Second))
		return
	}
	w.question.Content, w.question.Signal = content, signal
	if a.says = append(a.says, w); len(a.says) == 1 {
		qs.askNext(a)
	}
}

// askNext asks about the first of the waiting messages. It continues after the session has
// ended: what a client said before it left counts.
func (qs *questions) askNext(a *asked) {
	qs.backend.Ask(&a.says[0].question, func(answer backend.Answer, err error) {
		qs.hub.Post(func() { qs.sayAnswered(a, answer, refusalIn(err)) })
	})
}

// sayAnswered continues with the first of the waiting messages. If nobody has answered, the
// later ones of its room are refused with it; otherwise they would be stored before it.
func (qs *questions) sayAnswered(a *asked, answer backend.Answer, refusal *proto.Refusal) {
	w := a.says[0]
	a.says = a.says[1:]
	switch {
	case refusal == nil && answer.Content != nil:
		qs.finish(w, *answer.Content, nil)
	default:
		qs.finish(w, w.question.Content, refusal)
	}
	if refusal != nil && refusal.Temporary() {
		rest := a.says
		a.says = nil
		for _, later := range rest {
			if later.question.Room == w.question.Room {
				qs.finish(later, proto.Content{}, refusal)
			} else {
				a.says = append(a.says, later)
			}
		}
	}
	if len(a.says) > 0 {
		qs.askNext(a)
	}
}

func (qs *questions) finish(w *asking, content proto.Content, refusal *proto.Refusal) {
	qs.cfg.Hub.Memory.Add(limit.Says, -w.size)
	if refusal != nil {
		w.refused(refusal)
		return
	}
	w.allowed(content)
}
