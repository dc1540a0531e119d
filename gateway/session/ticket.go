package session

import (
	"roomcast/gateway/auth"
	"roomcast/proto"
)

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
