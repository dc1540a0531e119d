package server

import (
	"cmp"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/grant"
)

// guard finds out who the caller of the HTTP API is, and which rights the caller has:
//
//   - A token in the token file has the rights of its line.
//   - A user's own token has the rights of this user.
//   - A resume string stands for the user or guest whose session received it.
//   - A request with a credential that is not accepted is refused. It never has other rights. A
//     header Authorization with another scheme than Bearer is no credential.
//   - Without any credential, a program on this machine may do everything. But it needs a token if the
//     gateway is configured for people on other machines too. A request that comes through a proxy
//     never counts as local, even if the proxy runs on this machine.
//
// A page in a browser on this machine sends its requests from this machine too, but must not have
// the rights of a program. So the Host of a local request must be a name of this machine.
// Otherwise a page could make its own name point to this machine (DNS rebinding). A POST of a
// page must also contain JSON. Before a page sends JSON to another origin, the browser asks that
// origin for permission (a preflight request).
//
// A guard never changes, so it is safe for concurrent use.
type guard struct {
	tokens *auth.APITokens // nil = there is no token file
	closed string          // see whyClosed
	auth   *auth.Auth

	backend *backend.Backend // nil = there is no backend

	// refreshKeys asks roomsvc for the keys that sign resume strings. Nil means that the keys
	// never change.
	refreshKeys func(done func(error))
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
	if cfg.Auth.GuestRights == nil && !a.Guests().IsEmpty() && g.tokens.MakeTickets() {
		cfg.Log.Warn("clients without a ticket have the rights of guests; set --guest-rights= to give them none", "guest_rights", strings.Join(cfg.Auth.Rights, ","))
	}
	return g, nil
}

// whyClosed returns why even programs on this machine need a token, as the end of a refusal. It
// returns "" if they need none. They need one if a setting is for people on other machines, who
// can then reach this listener too.
func whyClosed(cfg *Config, listen net.Addr) string {
	for _, c := range []struct {
		is  bool
		why string
	}{
		{!daemon.IsLoopback(listen.String()), "or listen on a loopback address"},
		{!cfg.LocalAPI, "or without --local-api=false"},
		{len(cfg.Ask.Ask) > 0, "because --ask admits clients of other machines"},
		{len(cfg.Auth.AllowOrigins) > 0, "because --allow-origin admits clients of other machines"},
		{len(cfg.TrustProxies) > 0, "because --trust-proxy admits clients of other machines"},
	} {
		if c.is {
			return c.why
		}
	}
	return ""
}

// check returns the caller of the request. It returns an error if the request is refused.
func (g *guard) check(r *http.Request) (caller, error) {
	origin, site := r.Header.Get("Origin"), siteOf(r)
	if err := g.auth.CheckOrigin(origin, site); err != nil {
		return caller{}, proto.Refuse(proto.Forbidden, "%v", err)
	}
	if origin == "" && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return caller{}, proto.Refuse(proto.Forbidden, "%v", auth.ErrOrigin)
	}
	shown, bearer, err := credentialOf(r)
	if err != nil {
		return caller{}, err
	}
	if bearer && g.tokens != nil {
		if t := g.tokens.Find(shown); t != nil {
			if origin != "" && !g.auth.OwnPage(origin, site) {
				return caller{}, proto.Refuse(proto.Forbidden, "a page of another origin must not have a token of --api-token-file; use a user's token there")
			}
			return caller{who: proto.Identity{ID: t.ID()}, token: t}, nil
		}
	}
	resume := r.Header.Get("Roomcast-Resume")
	switch {
	case bearer:
		return g.holder(r, shown, resume)
	case r.Header["Roomcast-Resume"] != nil:
		return g.resumed(r, resume)
	}
	closed := g.checkLocal(r)
	if closed == nil {
		return local, nil
	}
	by := g.guest(r)
	by.lacks = closed
	if r.Method == http.MethodPost || g.auth.Guests().IsEmpty() && len(by.headers) == 0 {
		return by, nil
	}
	return by, g.ask(r, &by)
}

// credentialOf returns the token of a request. It returns an error if the request has a credential
// in a place that the HTTP API does not read, or several in one place. To ignore such a credential
// would give the request other rights than the caller expects.
func credentialOf(r *http.Request) (token string, bearer bool, err error) {
	for _, name := range []string{"Authorization", "Roomcast-Resume"} {
		if refusal := atMostOne(r, name); refusal != nil {
			return "", false, refusal
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", false, proto.Refuse(proto.BadRequest, "the query is malformed: %v", err)
	}
	for _, name := range []string{"token", "ticket", "resume"} {
		if query.Has(name) {
			return "", false, proto.Refuse(proto.Unauthorized, "the HTTP API accepts no credential in the URL; send a token as Authorization: Bearer, or a resume string as Roomcast-Resume")
		}
	}
	token, bearer = auth.Bearer(r.Header.Get("Authorization"))
	return token, bearer, nil
}

// checkLocal decides about a request without a credential. It returns nil if the request comes
// from a program on this machine, which may do everything. Otherwise it returns the reason for
// the refusal.
func (g *guard) checkLocal(r *http.Request) error {
	origin, peer := r.Header.Get("Origin"), addressOf(r)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case g.tokens != nil || g.auth.TakesTokens():
		return proto.Refuse(proto.Unauthorized, "send a token in the header Authorization: Bearer")
	case g.closed != "":
		return proto.Refuse(proto.Forbidden, "the HTTP API is off; start the gateway with --api-token-file, %s", g.closed)
	case wire.Proxied(r):
		return proto.Refuse(proto.Forbidden, "without --api-token-file only this machine may use the HTTP API, and this request came through a proxy")
	case !peer.IsLoopback():
		return proto.Refuse(proto.Forbidden, "without --api-token-file only this machine may use the HTTP API")
	case !daemon.IsLoopback(r.Host):
		return proto.Refuse(proto.Forbidden, "without --api-token-file the HTTP API accepts only the hosts localhost and 127.0.0.1")
	case origin != "" && !g.auth.OwnPage(origin, siteOf(r)):
		return proto.Refuse(proto.Forbidden, "a page of another origin does not have the rights of this machine")
	case r.Method == http.MethodPost && origin != "" && kind != "application/json":
		return proto.Refuse(proto.Forbidden, "a page must send Content-Type: application/json")
	}
	return nil
}

// guest returns a new guest as the caller of the request.
func (g *guard) guest(r *http.Request) caller {
	return caller{
		who: g.auth.Anonymous(), grant: g.auth.Guests(), guest: true, issued: time.Now(), pass: new(auth.Pass), headers: g.headers(r),
	}
}

// holder returns the caller that sent a token which is not in --api-token-file. If the caller
// has also sent a resume string, the string contains the backend's earlier answers.
func (g *guard) holder(r *http.Request, token, resume string) (caller, error) {
	peer, shared, now := addressOf(r), sharesAddress(r), time.Now()
	if err := g.auth.CheckPeer(peer, shared, now); err != nil {
		return caller{}, err
	}
	var h auth.Holder
	var err error = proto.Refuse(proto.Unauthorized, "the token is not in --api-token-file")
	switch {
	case g.tokens != nil && g.auth.TakesTokens() && strings.Count(token, ".") != 2:
		err = proto.Refuse(proto.Unauthorized, "the token is neither in --api-token-file nor a JSON Web Token")
	case g.tokens == nil || g.auth.TakesTokens():
		h, err = g.auth.Token(token)
	}
	if err != nil {
		g.auth.CountFailure(peer, shared, err, now)
		return caller{}, err
	}
	by := caller{who: h.Who, grant: h.Grant, issued: h.Issued, expires: h.End(), tokenID: h.Who.ID, pass: new(auth.Pass), headers: g.headers(r)}
	if g.findKey(r, resume) == nil {
		if pass, err := g.auth.ReadPass(resume, h.Who.ID); err == nil && g.revoked(pass) == nil {
			by.pass = pass
		}
	}
	return by, g.ask(r, &by)
}

// resumed returns the caller of a request that has a resume string but no token.
func (g *guard) resumed(r *http.Request, resume string) (caller, error) {
	peer, shared, now := addressOf(r), sharesAddress(r), time.Now()
	if err := g.auth.CheckPeer(peer, shared, now); err != nil {
		return caller{}, err
	}
	if err := g.findKey(r, resume); err != nil {
		return caller{}, err
	}
	pass, err := g.auth.ReadPass(resume, "")
	if err == nil {
		err = g.revoked(pass)
	}
	if errors.Is(err, auth.ErrResume) {
		err = proto.Refuse(proto.Unauthorized, "the resume string is invalid or too old; use that of a new hello")
		g.auth.CountFailure(peer, shared, err, now)
	}
	if err != nil {
		return caller{}, err
	}
	by := g.guest(r)
	if by.guest = auth.IsGuest(pass.Who); !by.guest && !pass.Ticket && !g.backend.Asks(backend.Connect) {
		return caller{}, auth.ErrPass
	}
	by.who, by.issued, by.pass = pass.Who, pass.Issued, pass
	return by, g.ask(r, &by)
}

// findKey looks up the key that signed a resume string. It returns an error if roomsvc could not
// be asked. It returns nil if there is no such key, because then a later check of the signature
// fails.
func (g *guard) findKey(r *http.Request, resume string) error {
	if g.refreshKeys == nil || g.auth.KnowsKeyOf(resume) {
		return nil
	}
	_, err := await(r.Context(), func(done func(struct{}, error)) {
		g.refreshKeys(func(err error) { done(struct{}{}, err) })
	})
	if err != nil && r.Context().Err() == nil {
		return auth.KeyUnknown()
	}
	return err
}

// revoked returns a refusal if the resume string was revoked. Otherwise it returns nil.
func (g *guard) revoked(pass *auth.Pass) error {
	for _, id := range []string{pass.Who.ID, pass.Token} {
		if err := g.auth.Revoked().Check(id, pass.Family, pass.Issued); err != nil {
			return err
		}
	}
	return nil
}

// headers returns the headers of a request that go to the backend. It leaves out cookies, which
// the HTTP API ignores.
func (g *guard) headers(r *http.Request) map[string]string {
	headers := make(map[string]string)
	for _, name := range g.backend.Headers() {
		if value := strings.Join(r.Header.Values(name), ", "); value != "" && !strings.EqualFold(name, "cookie") {
			headers[name] = strings.ToValidUTF8(value, "\uFFFD")
		}
	}
	return headers
}

// ask asks the backend whether the caller may connect. It does not ask if the caller's pass
// already contains this permission. For the backend, each such request looks like a new session.
func (g *guard) ask(r *http.Request, by *caller) (err error) {
	own := by.grant
	if by.tokenID == "" {
		own = nil
	}
	if (by.pass.Ticket || g.backend.Asks(backend.Connect)) && !by.pass.Until.IsZero() {
		by.who = by.pass.Who
		if by.expires.IsZero() || by.pass.Until.Before(by.expires) {
			by.expires = by.pass.Until
		}
		by.grant, err = g.auth.GrantOf(by.pass.Rooms, own)
		return err
	}
	if !g.backend.Asks(backend.Connect) {
		return nil
	}
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
	if err := g.auth.Revoked().Check(by.who.ID, "", by.issued); err != nil {
		return err
	}
	by.grant, err = g.auth.GrantOf(answer.Rooms, own)
	return err
}

// askJoin asks the backend whether the caller may read a room. It does not ask if the caller's
// pass already contains this permission.
func (g *guard) askJoin(r *http.Request, by *caller, room proto.Room) error {
	if !by.asked() || !g.backend.Asks(backend.Join) || by.pass.MayJoin(room, time.Now()) {
		return nil
	}
	q := backend.Question{Kind: backend.Join, Who: by.who, Room: room, Headers: by.headers}
	_, err := await(r.Context(), func(done func(backend.Answer, error)) { g.backend.Ask(&q, done) })
	return err
}
