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

// asked contains the backend's answers for a session, and the questions that the backend has not
// answered yet. The loop owns it.
type asked struct {
	pass     auth.Pass         // what the backend has allowed; its Until is zero if the answer to connect is for this session only
	answered bool              // pass.Rooms comes from the backend's answer to connect
	unasked  bool              // the backend did not answer, and --ask-fail=allow admitted the session
	headers  map[string]string // headers of the handshake for the backend
	says     []*asking         // messages and signals in the order of the client; the backend is deciding about the first
}

// questions asks the backend, and keeps its answers. The loop owns it.
type questions struct {
	*lifecycle
	asked    map[loop.ID]*asked // by session; empty without a backend and tickets
	families map[loop.ID]string // for each session that came with a resume string; see family
}

// maxAskHeaders bounds the headers that one session keeps for the backend, in bytes.
const maxAskHeaders = 8 << 10

// askHeaders returns the headers of a handshake that go to the backend. It includes a cookie
// only if the page that sent the request may use the cookie.
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

// introduced reports whether the backend can find out who the client is. For this, a session
// without a token needs a header for the backend, or a pass.
func (h *handshakes) introduced(s *session) bool {
	a := h.asked[s.id]
	return a != nil && (len(a.headers) > 0 || !a.pass.Until.IsZero())
}

// usePass reads the pass from the resume string of a client's earlier session. The pass contains
// the backend's answers for that session. If the session has no token, the string also identifies
// the client. Only in that case can usePass return an error: the string has been revoked, or the
// client must also send its token or a new ticket.
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
			if token != "" { // the token still identifies the client
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

// remember returns the session's entry in asked. It makes the entry if there is none.
func (qs *questions) remember(s *session) *asked {
	a := qs.asked[s.id]
	if a == nil {
		a = new(asked)
		qs.asked[s.id] = a
	}
	return a
}

// redeem uses up a ticket. The ticket gives the session its identity, its rights and its end.
// Then redeem calls done on the loop, unless the session has ended meanwhile.
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

// withKey looks up the key that signed a resume string or ticket. Then it calls next on the loop,
// at once or later, unless the session has ended. The error is not nil if the gateway could not
// ask roomsvc for the key. It is nil if there is no such key, because then a later check of the
// signature fails.
func (qs *questions) withKey(s *session, signed string, next func(*session, error)) {
	if qs.auth.KnowsKeyOf(signed) {
		next(s, nil)
		return
	}
	id := s.id
	qs.bridge.RefreshKeys(func(err error) {
		if err != nil {
			err = auth.KeyUnknown()
		}
		qs.later(id, func(s *session) { next(s, err) })
	})
}

// later calls do on the loop, unless the session has ended by then. Any goroutine may call it.
func (qs *questions) later(id loop.ID, do func(*session)) {
	qs.hub.Post(func() {
		if s := qs.get(id); s != nil && s.phase != ending {
			do(s)
		}
	})
}

// markTicket marks a ticket as used. If this is the first use, it gives the session the ticket's
// identity and rights.
func (qs *questions) markTicket(s *session, t *auth.Ticket, done func(*session, error)) {
	id := s.id
	qs.bridge.UseTicket(t.Number, func(first bool, err error) {
		qs.later(id, func(s *session) {
			if err != nil || !first {
				done(s, auth.TicketRefusal(err == nil))
				return
			}
			done(s, qs.useTicket(s, t))
		})
	})
}

// useTicket gives the session the identity and rights of the ticket. If the session already has
// a ticket, the new ticket renews the session.
func (qs *questions) useTicket(s *session, t *auth.Ticket) error {
	if err := qs.auth.Revoked().Check(t.Who.ID, "", t.Issued); err != nil {
		return err
	}
	a := qs.remember(s)
	if s.flags&admitted != 0 && (!a.pass.Ticket || a.pass.Issuer != t.Issuer || s.who.ID != t.Who.ID) || s.flags&hasToken != 0 {
		return proto.Refuse(proto.Forbidden, "the ticket is for another id or from another issuer; open another connection for it")
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

// permit asks the backend whether the session may begin. It does not ask if the session's pass
// contains the answer. If the session may begin, permit calls next. If not, it closes the
// session.
func (qs *questions) permit(s *session, next func(*session)) {
	a := qs.asked[s.id]
	switch {
	case a != nil && !a.pass.Until.IsZero():
		s.who, a.answered = a.pass.Who, true
		qs.keepAnswer(s)
		next(s)
		return
	case !qs.backend.Asks(backend.Connect):
		next(s)
		return
	}
	qs.ask(s, backend.Connect, proto.Room{}, func(s *session, answer backend.Answer, refusal *proto.Refusal) {
		if refusal != nil {
			qs.closeRefused(s, refusal)
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
		next(s)
	})
}

// keepAnswer applies the backend's answer to connect. It restricts a session to the rights that
// both its token and this answer contain. The session ends when the first of the two ends.
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
	s.grant, _ = qs.auth.GrantOf(a.pass.Rooms, own) // no error: the rooms of the answer were parsed before
	if until := secondOf(a.pass.Until); !a.pass.Until.IsZero() && (s.expires == 0 || until < s.expires) {
		s.expires = until
	}
}

// tokenID returns the id in a session's token. The session itself may have another id, which the
// backend has chosen.
func (qs *questions) tokenID(s *session) string {
	if p := qs.polls.waiting[s.id]; p != nil && p.Token != "" {
		return p.Token
	}
	if a := qs.asked[s.id]; a != nil && a.pass.Token != "" {
		return a.pass.Token
	}
	return s.who.ID
}

// resumeOf returns a resume string. A client that sends it in its next handshake has the same
// identity as before, and the gateway need not ask the backend again.
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

// family returns the name by which revocations find all sessions that continue each other. When a
// client resumes, its new session gets another resume string. All these sessions have the same
// family: the id of the first one.
func (qs *questions) family(s *session) string {
	if p := qs.polls.waiting[s.id]; p != nil {
		return p.Family
	}
	if family, has := qs.families[s.id]; has {
		return family
	}
	return qs.hub.Session(s.id)
}

// revoke ends the sessions whose credentials the revocations in list make invalid.
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

// passedRoom returns a new resume string if the backend's permission to join the room is valid
// for later sessions too. The string contains this permission. Otherwise passedRoom returns "".
func (h *handshakes) passedRoom(s *session, room proto.Room) string {
	if a := h.asked[s.id]; a == nil || !a.pass.MayJoin(room, h.loop.Now()) {
		return ""
	}
	return h.resumeOf(s)
}

// askJoin asks the backend whether the session may join a room. It does not ask if the session's
// pass already allows the join. Then it calls done with a refusal or nil, unless the session has
// ended.
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

// ask asks the backend one question. It calls done on the loop, unless the session has ended
// meanwhile.
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

// closeRefused closes a session with the close code and the message of a refusal.
func (qs *questions) closeRefused(s *session, refusal *proto.Refusal) {
	qs.close(s, closeCode(refusal.Code), refusal.Message, proto.LeftServer)
}

// asking is a message or a signal that waits for the backend's answer. Later messages and
// signals of the session wait for it, so that the order is kept.
type asking struct {
	question backend.Question
	size     int // memory that it occupies, in bytes
	allowed  func(proto.Content)
	refused  func(*proto.Refusal)
}

// askSay asks the backend whether to allow a message. If so, it publishes the content that the
// backend returns.
func (c *commands) askSay(s *session, say publish.Say, done func(proto.Reply)) {
	id := s.id
	sent := say.Content
	sent.Body = bytes.Clone(sent.Body)
	verb := proto.VerbSay
	if say.Act == proto.ActEdit {
		verb = proto.VerbEdit
	}
	c.enqueue(s, say.Room, sent, verb, func(content proto.Content) {
		say.Content, say.Sent = content, &sent
		c.publish(id, say, done)
	}, func(refusal *proto.Refusal) {
		if s := c.get(id); s != nil && refusal.Temporary() {
			refusal = c.resendIn(s, say.Room, say.Key, refusal)
		}
		c.said(id, proto.Reply{Refusal: refusal}, done)
	})
}

// enqueue asks the backend about content. If the backend has not answered earlier questions of
// the session, enqueue first waits for these answers. The caller must not change the body of
// content later.
func (qs *questions) enqueue(s *session, room proto.Room, content proto.Content, verb proto.Verb, allowed func(proto.Content), refused func(*proto.Refusal)) {
	a := qs.asked[s.id]
	w := &asking{question: qs.question(s, backend.Say, room), size: 2 * len(content.Body), allowed: allowed, refused: refused}
	if !qs.cfg.Hub.Memory.Take(limit.Says, w.size) {
		w.size = 0
		refused(proto.Refuse(proto.Overloaded, "too many questions to the application are waiting; send it again").After(time.Second))
		return
	}
	w.question.Content, w.question.Verb = content, verb
	if a.says = append(a.says, w); len(a.says) == 1 {
		qs.askNext(a)
	}
}

// askNext asks the backend about the first of the waiting messages. It does so even after the
// session has ended, because the messages that the client has sent must not be lost.
func (qs *questions) askNext(a *asked) {
	qs.backend.Ask(&a.says[0].question, func(answer backend.Answer, err error) {
		qs.hub.Post(func() { qs.sayAnswered(a, answer, refusalIn(err)) })
	})
}

// sayAnswered handles the backend's answer for the first of the waiting messages. If the backend
// did not answer, sayAnswered also refuses the later messages of the same room. Otherwise they
// would be stored before the first message, which the client sends again.
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
