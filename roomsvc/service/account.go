package service

import (
	"encoding/json"
	"slices"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/roomsvc/room"
)

// guestRights are the rights of a NATS client that is not trusted.
const guestRights = proto.MayRead | proto.MaySay

// restrict takes a guest's identity and rights from its command, and refuses a guest's act.
func (s *Service) restrict(msg *nats.Msg, c *room.Command) *proto.Refusal {
	if s.trusts(msg) {
		return nil
	}
	if c.Act != "" {
		return proto.Refuse(proto.Forbidden, "a guest cannot %s; connect as a user of a trusted account", c.Act)
	}
	c.From, c.Rights, c.Guest = proto.Identity{ID: proto.NATSSender}, guestRights, true
	return nil
}

// trusts reports whether a command may name its sender. Without the server's header it
// came from a gateway, or from a client of this service's own account.
func (s *Service) trusts(msg *nats.Msg) bool {
	info := msg.Header[proto.HeaderAccount]
	if len(info) == 0 {
		return true
	}
	var from struct {
		Account string `json:"acc"`
	}
	// The server replaces what the client sent; a second value would be the client's.
	return len(info) == 1 && json.Unmarshal([]byte(info[0]), &from) == nil && slices.Contains(s.cfg.Trusted, from.Account)
}
