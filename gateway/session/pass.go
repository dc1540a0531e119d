package session

import (
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/proto"
)

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
	if (err == auth.ErrPass || err == auth.ErrTicketOver) && token == "" {
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
		s.issued = 0 // the session has not sent auth
	}
	return nil
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

// passedRoom returns a new resume string if the backend's permission to join the room is valid
// for later sessions too. The string contains this permission. Otherwise passedRoom returns "".
func (h *handshakes) passedRoom(s *session, room proto.Room) string {
	a := h.asked[s.id]
	if a == nil || !a.pass.MayJoin(room, h.loop.Now()) {
		return ""
	}
	if s.flags&hasToken == 0 && a.pass.Until.IsZero() && !auth.IsGuest(s.who) {
		return "" // the string cannot identify the client in a later session
	}
	return h.resumeOf(s)
}
