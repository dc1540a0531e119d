package server

import (
	"net/http"
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/grant"
)

// caller is the sender of a request to the API, with its rights. It is a program with a token of
// the token file, a user with a token or a resume string, a guest, or a program on this machine.
// The last of these may do everything.
type caller struct {
	who   proto.Identity
	token *auth.APIToken // a token of the token file; nil = the rights are those in grant
	grant *grant.Grant
	local bool // the caller is a program on this machine
	guest bool
	lacks error // the refusal for requests that need a credential; nil = the caller has sent one

	// From the credential of a user or guest:
	issued  time.Time
	expires time.Time  // zero = the credential does not expire
	tokenID string     // the id in the token; the backend may have put another id into who; "" = no token
	pass    *auth.Pass // the backend's earlier answers; empty = there are none

	headers map[string]string // headers for the backend
}

var local = caller{who: proto.Identity{ID: "api"}, grant: grant.Everywhere(proto.AllRights), local: true}

// asked reports whether the gateway asks the backend about the caller. It does so for users and
// guests, but not for programs.
func (c *caller) asked() bool { return c.token == nil && !c.local }

// may returns a refusal if the caller does not have the right in the room. Otherwise it returns
// nil.
func (c *caller) may(room proto.Room, right proto.Right) error {
	var refusal *proto.Refusal
	if c.token != nil {
		refusal = c.token.Check(room, right)
	} else {
		refusal = c.grant.Check(room, c.who.ID, right)
	}
	switch {
	case refusal == nil:
		return nil
	case c.lacks != nil:
		return c.lacks
	}
	return refusal
}

// mayBe returns a refusal if the caller may not send messages under the given id. Otherwise it
// returns nil.
func (c *caller) mayBe(id string) error {
	switch {
	case c.local:
	case c.token == nil:
		return proto.Refuse(proto.Forbidden, "your token speaks only for yourself; leave out from and name")
	default:
		if refusal := c.token.CheckID(id, auth.RightAs); refusal != nil {
			return refusal
		}
	}
	return nil
}

// rights returns the rights of the caller in the room.
func (c *caller) rights(room proto.Room) (rights proto.Rights) {
	if c.token == nil {
		return c.grant.Of(room, c.who.ID)
	}
	for right, bit := range map[proto.Right]proto.Rights{
		proto.RightRead: proto.MayRead, proto.RightSay: proto.MaySay, proto.RightModerate: proto.MayModerate,
	} {
		if c.token.Check(room, right) == nil {
			rights |= bit
		}
	}
	return rights
}

// banned returns a refusal if the caller is banned from a room. Otherwise it returns nil.
func (c *caller) banned(limits *proto.Restrictions) error {
	if banned := limits.CheckBan(c.who.ID, proto.IsGuest(c.who.ID), time.Now()); banned != nil {
		return banned
	}
	return nil
}

// describe adds the caller and the caller's credential to act, which describes an act for the
// audit log.
func (c *caller) describe(r *http.Request, issuer func(id string) string, act daemon.Act) daemon.Act {
	act.By, act.Peer = c.who.ID, r.RemoteAddr
	switch {
	case c.local:
		act.Credential = "local"
	case c.token != nil:
		act.Credential, act.Holder = "api-token", c.token.ID()
	case c.tokenID != "":
		act.Credential, act.Holder = "token", issuer(c.tokenID)
	case c.guest:
		act.Credential = "guest"
	case c.pass.Ticket:
		act.Credential, act.Holder = "ticket", c.pass.Issuer
	default:
		act.Credential = "backend"
	}
	return act
}
