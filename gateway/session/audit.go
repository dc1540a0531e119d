package session

import (
	"net/netip"

	"roomcast/gateway/publish"
	"roomcast/proto"
	"roomcast/proto/daemon"
)

// actOf returns the act of a session in the form that the audit log uses. It returns nil for a
// message.
func (qs *questions) actOf(s *session, say *publish.Say) *daemon.Act {
	if say.Act == "" {
		return nil
	}
	act := daemon.ActOf(say.Room, say.Act, &say.Terms, say.Why)
	act.By = s.who.ID
	act.Peer = netip.AddrPortFrom(netip.AddrFrom16(s.peer).Unmap(), s.port).String()
	switch a := qs.asked[s.id]; {
	case s.flags&hasToken != 0:
		act.Credential, act.Holder = "token", qs.auth.IssuerOf(qs.tokenID(s))
	case s.flags&admitted == 0:
		act.Credential = "guest"
	case a != nil && a.pass.Ticket:
		act.Credential, act.Holder = "ticket", a.pass.Issuer
	default:
		act.Credential = "backend"
	}
	return &act
}

// auditRefused logs an act that the gateway refused without sending it to the room's owner.
func (qs *questions) auditRefused(s *session, cmd *proto.Command, err error) {
	if cmd.Act != "" {
		act := qs.actOf(s, &publish.Say{Room: cmd.Room, Act: cmd.Act, Terms: cmd.Terms, Why: cmd.Why})
		daemon.Audit(qs.cfg.Log, *act, err)
	}
}
