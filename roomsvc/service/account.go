package service

import (
	"encoding/json"
	"slices"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/roomsvc/room"
)

// restrict limits the command of a guest, which is a NATS client of an account that is not trusted.
// It replaces the identity and the rights in the command by the identity and the rights of a guest.
// It refuses all acts, and messages in rooms where guests may not say anything.
func (s *Service) restrict(msg *nats.Msg, to proto.Room, c *room.Command) *proto.Refusal {
	if s.trusts(msg) {
		return nil
	}
	c.From, c.Guest = proto.Identity{ID: proto.NATSSender}, true
	c.Rights = s.guests.Of(to, c.From.ID)
	if c.Act != "" {
		return proto.Refuse(proto.Forbidden, "a guest cannot %s; connect as a user of a trusted account", c.Act)
	}
	return s.guests.Check(to, c.From.ID, proto.RightSay)
}

// actOf returns the entry of the audit log for an act that a NATS client sent. It returns nil if
// the command is no act, or if a gateway sent it. That gateway knows more about the author and logs
// the act itself.
func actOf(c *command, cmd *room.Command) *daemon.Act {
	if cmd.Act == "" || c.local != nil {
		return nil
	}
	account, given := accountOf(c.msg)
	if !given && proto.FromGateway(c.msg.Reply) {
		return nil
	}
	act := daemon.ActOf(c.to, cmd.Act, &cmd.Terms, cmd.Why)
	act.By, act.Credential, act.Holder = cmd.From.ID, "nats", account
	return &act
}

// trusts reports whether a command may name its sender. The NATS server adds a header to requests
// from other accounts. A command without that header comes from a gateway or another client of this
// service's own account.
func (s *Service) trusts(msg *nats.Msg) bool {
	account, given := accountOf(msg)
	return !given || slices.Contains(s.cfg.Trusted, account)
}

// accountOf returns the account that a command came from. If the NATS server has not set the header
// that names the account, it returns false.
func accountOf(msg *nats.Msg) (account string, given bool) {
	info := msg.Header[proto.HeaderAccount]
	if len(info) == 0 {
		return "", false
	}
	var from struct {
		Account string `json:"acc"`
	}
	// The server replaces the value that a client has set, so the header has one value. A second
	// one would be forged.
	if len(info) != 1 || json.Unmarshal([]byte(info[0]), &from) != nil {
		return "", true
	}
	return from.Account, true
}
