package service

import (
	"encoding/json"
	"log/slog"
	"slices"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/roomsvc/room"
)

// restrict replaces the identity and rights in a guest's command with those of a guest. It refuses
// a guest's act. It also refuses the guest's message if guests may not say anything in the room.
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

// actOf returns an act from a NATS client as the log shows it. It returns nil if the command is no
// act, or if a gateway sent it: the gateway knows more about the author and logs the act.
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

// audit logs the outcome of an act.
func audit(log *slog.Logger, act *daemon.Act, reply proto.Reply) {
	act.Seq = reply.Seq
	if reply.Refusal != nil {
		daemon.Audit(log, *act, reply.Refusal)
		return
	}
	daemon.Audit(log, *act, nil)
}

// trusts reports whether a command may name its sender. A command without the server's header comes
// from a gateway, or from a client of this service's own account.
func (s *Service) trusts(msg *nats.Msg) bool {
	account, given := accountOf(msg)
	return !given || slices.Contains(s.cfg.Trusted, account)
}

// accountOf returns the account that a command came from, if the server has named it.
func accountOf(msg *nats.Msg) (account string, given bool) {
	info := msg.Header[proto.HeaderAccount]
	if len(info) == 0 {
		return "", false
	}
	var from struct {
		Account string `json:"acc"`
	}
	// The server replaces a header of the client; a second value would come from the client.
	if len(info) != 1 || json.Unmarshal([]byte(info[0]), &from) != nil {
		return "", true
	}
	return from.Account, true
}
