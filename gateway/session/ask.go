package session

import (
	"strings"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/loop"
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
	asked map[loop.ID]*asked // by session; empty without a backend and tickets
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

// remember returns the session's entry in asked. It makes the entry if there is none.
func (qs *questions) remember(s *session) *asked {
	a := qs.asked[s.id]
	if a == nil {
		a = new(asked)
		qs.asked[s.id] = a
	}
	return a
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
		if !auth.IsGuest(s.who) {
			s.issued = 0 // the session has not sent auth
		}
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

// askJoin asks the backend whether the session may join a room. It does not ask if the session's
// pass already allows the join. Then it calls done with a refusal or nil, unless the session has
// ended.
func (qs *questions) askJoin(s *session, room proto.Room, done func(*session, *proto.Refusal)) {
	a := qs.asked[s.id]
	switch {
	case !qs.backend.Asks(backend.Join):
		done(s, nil)
		return
	case a.pass.MayJoin(room, qs.loop.Now()):
		qs.permissions.set(memberKey{s.id, room}, a.pass.Joins[room.String()])
		done(s, nil)
		return
	}
	qs.ask(s, backend.Join, room, func(s *session, answer backend.Answer, refusal *proto.Refusal) {
		if refusal == nil {
			qs.permissions.set(memberKey{s.id, room}, answer.Until)
		}
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

func (qs *questions) question(s *session, kind backend.Kind, room proto.Room) backend.Question {
	return backend.Question{Kind: kind, Session: qs.families.sessionID(s.id, qs.hub.Session(s.id)), Who: s.who, Room: room, Headers: qs.asked[s.id].headers}
}

func refusalIn(err error) *proto.Refusal {
	if err == nil {
		return nil
	}
	return proto.AsRefusal(err)
}

// closeRefused closes a session with the close code and the message of a refusal.
func (qs *questions) closeRefused(s *session, refusal *proto.Refusal) {
	qs.close(s, closeCode(refusal.Code), refusal.Message, proto.LeftServer)
}
