package server

import (
	"cmp"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/grant"
)

// guard decides which requests may use the HTTP API. A token of the token file has the rights
// of its line; a user's own token has the user's rights. Without a token file and without keys
// for tokens, every program of this machine may use the API, unless the gateway is configured
// for other people too. A request through a proxy never counts as local,
// although the proxy may be.
//
// A page in a browser of this machine has the browser's place in the network. So the Host
// must be a name of this machine: otherwise a page could let its own name point here (DNS
// rebinding). And a request from a page must be of a kind that browsers do not send across
// origins without asking first. A guard is immutable and safe for concurrent use.
type guard struct {
	tokens *auth.APITokens // nil = none
	closed string          // how to open the API without a token; "" = this machine may use it
	auth   *auth.Auth

	backend *backend.Backend // nil = nothing is asked
}

func newGuard(cfg *Config, listen net.Addr, a *auth.Auth, ask *backend.Backend) (guard, error) {
	g := guard{auth: a, backend: ask, closed: whyClosed(cfg, listen)}
	if cfg.APITokenFile == "" {
		return g, nil
	}
	var err error
	if g.tokens, err = auth.OpenAPITokens(cfg.APITokenFile, cfg.Log); err != nil {
		return g, fmt.Errorf("--api-token-file: %w", err)
	}
	return g, nil
}

// whyClosed returns why even this machine needs a token, or "". A setting that is meant for
// other people shows that they reach this listener too.
func whyClosed(cfg *Config, listen net.Addr) string {
	for _, c := range []struct {
		is  bool
		why string
	}{
		{!daemon.IsLoopback(listen.String()), "or listen on a loopback address"},
		{!cfg.LocalAPI, "or without --local-api=false"},
		{len(cfg.Ask.Ask) > 0, "because --ask admits clients of other machines"},
		{len(cfg.Auth.AllowOrigins) > 0, "because --allow-origin admits clients of other machines"},
	} {
		if c.is {
			return c.why
		}
	}
	return ""
}

// A caller is a user of the API, with its rights. It has a token of the token file, a token
// of its own, or it is a program of this machine, which may do everything.
type caller struct {
	who   proto.Identity
	token *auth.APIToken // nil = the caller has grant
	grant *grant.Grant
	local bool // a program of this machine

	headers map[string]string // for the backend
}

var local = caller{who: proto.Identity{ID: "api"}, grant: grant.Everywhere(proto.AllRights), local: true}

// may returns the refusal for a caller without the right in room, nil if it has it.
func (c *caller) may(room proto.Room, right proto.Right) error {
	var refusal *proto.Refusal
	if c.token != nil {
		refusal = c.token.Check(room, right)
	} else {
		refusal = c.grant.Check(room, c.who.ID, right)
	}
	if refusal != nil {
		return refusal
	}
	return nil
}

// mayBe returns the refusal for a caller that may not speak for an id.
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

// did completes what the log tells about an act of the caller.
func (c *caller) did(r *http.Request, issuer func(id string) string, act daemon.Act) daemon.Act {
	act.By, act.Peer = c.who.ID, r.RemoteAddr
	switch {
	case c.local:
		act.Credential = "local"
	case c.token != nil:
		act.Credential, act.Holder = "api-token", c.token.ID()
	default:
		act.Credential, act.Holder = "token", issuer(c.who.ID)
	}
	return act
}

// rights returns the rights of the caller in room.
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

// banned returns the refusal for a caller that is banned from a room, nil if it is not.
func (c *caller) banned(limits *proto.Restrictions) error {
	if limits.Banned(c.who.ID, time.Now()) {
		return proto.Refuse(proto.CodeBanned, "%s", proto.CloseBanned.Meaning())
	}
	return nil
}

// check returns the caller of the request or its refusal.
func (g *guard) check(r *http.Request) (caller, error) {
	origin := r.Header.Get("Origin")
	if err := g.auth.CheckOrigin(origin, r.Host); err != nil {
		return caller{}, proto.Refuse(proto.Forbidden, "%v", err)
	}
	if origin == "" && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return caller{}, proto.Refuse(proto.Forbidden, "%v", auth.ErrOrigin)
	}
	shown, ok := auth.Bearer(r.Header.Get("Authorization"))
	if ok && g.tokens != nil {
		if t := g.tokens.Find(shown); t != nil {
			if origin != "" && !g.auth.OwnPage(origin, r.Host) {
				return caller{}, proto.Refuse(proto.Forbidden, "a page of another origin must not have a token of --api-token-file; use a user's token there")
			}
			return caller{who: proto.Identity{ID: t.ID()}, token: t}, nil
		}
	}
	switch {
	case g.tokens != nil || g.auth.TakesTokens():
		if !ok {
			return caller{}, proto.Refuse(proto.Unauthorized, "send a token in the header Authorization: Bearer")
		}
		return g.holder(r, shown)
	}
	if g.closed != "" {
		return caller{}, proto.Refuse(proto.Forbidden, "the HTTP API is off; start the gateway with --api-token-file, %s", g.closed)
	}
	if wire.Proxied(r) {
		return caller{}, proto.Refuse(proto.Forbidden, "without --api-token-file only this machine may use the HTTP API, and this request came through a proxy")
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !peer.Addr().Unmap().IsLoopback() {
		return caller{}, proto.Refuse(proto.Forbidden, "without --api-token-file only this machine may use the HTTP API")
	}
	if !daemon.IsLoopback(r.Host) {
		return caller{}, proto.Refuse(proto.Forbidden, "without --api-token-file the HTTP API accepts only the hosts localhost and 127.0.0.1")
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method == http.MethodPost && origin != "" && kind != "application/json" {
		return caller{}, proto.Refuse(proto.Forbidden, "a page must send Content-Type: application/json")
	}
	return local, nil
}

// holder returns the caller with a token that is not in --api-token-file.
func (g *guard) holder(r *http.Request, token string) (caller, error) {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // an address that is no IP address is not counted
	if err := g.auth.CheckPeer(peer.Addr(), wire.Proxied(r), time.Now()); err != nil {
		return caller{}, err
	}
	var h auth.Holder
	var err error = proto.Refuse(proto.Unauthorized, "the token is not in --api-token-file")
	if g.auth.TakesTokens() {
		h, err = g.auth.Token(token)
	}
	if err != nil {
		g.auth.CountFailure(peer.Addr(), wire.Proxied(r), err, time.Now())
		return caller{}, err
	}
	by := caller{who: h.Who, grant: h.Grant, headers: g.headers(r)}
	if g.backend.Asks(backend.Connect) {
		return by, g.ask(r, &by)
	}
	return by, nil
}

// headers returns the headers of a request that the backend is told. A cookie does not count
// on the HTTP API.
func (g *guard) headers(r *http.Request) map[string]string {
	headers := make(map[string]string)
	for _, name := range g.backend.Headers() {
		if value := strings.Join(r.Header.Values(name), ", "); value != "" && !strings.EqualFold(name, "cookie") {
			headers[name] = strings.ToValidUTF8(value, "\uFFFD")
		}
	}
	return headers
}

// ask asks the backend whether the holder of a token may connect. Each request is a session of
// its own.
func (g *guard) ask(r *http.Request, by *caller) error {
	q := backend.Question{Kind: backend.Connect, Who: by.who, Headers: by.headers}
	answer, err := await(r.Context(), func(done func(backend.Answer, error)) { g.backend.Ask(&q, done) })
	switch {
	case err != nil:
		return err
	case answer.Unasked:
		by.grant = by.grant.Within(grant.Everywhere(proto.MayRead | proto.MaySay))
		return nil
	}
	by.who.ID, by.who.Name = cmp.Or(answer.Who.ID, by.who.ID), cmp.Or(answer.Who.Name, by.who.Name)
	by.grant, err = g.auth.GrantOf(answer.Rooms, by.grant)
	return err
}
