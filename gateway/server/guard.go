package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"

	"roomcast/gateway/auth"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/daemon"
)

// guard decides who may use the HTTP API. With a token file it is everybody who
// shows the token. Without one it is every program of this machine, while nothing is
// configured that lets others in. A request through a proxy is nobody's of this
// machine, although the proxy may be. A page in a browser of this machine could use
// the browser's place in the network: so the Host must be a name of this machine (or
// a page could let its own name point here, DNS rebinding), and a request from a
// page must be one that browsers ask about before they send it across origins.
type guard struct {
	token  [sha256.Size]byte // of the token, so that comparing takes the same time for all
	tokens bool              // whether there is one
	closed string            // why nobody may use it without a token; "" = this machine may
	auth   *auth.Auth
}

func newGuard(cfg *Config, listen net.Addr, a *auth.Auth) (guard, error) {
	g := guard{auth: a, closed: whyClosed(cfg, listen)}
	if cfg.APITokenFile == "" {
		return g, nil
	}
	token, err := readToken(cfg.APITokenFile)
	if err != nil {
		return g, fmt.Errorf("--api-token-file: %w", err)
	}
	g.token, g.tokens = sha256.Sum256(token), true
	return g, nil
}

// whyClosed returns why not even this machine may use the API without a token. What
// is configured for other people means that others reach this listener as well.
func whyClosed(cfg *Config, listen net.Addr) string {
	for _, c := range []struct {
		is  bool
		why string
	}{
		{!daemon.IsLoopback(listen.String()), "or listen on a loopback address"},
		{!cfg.LocalAPI, "or without --local-api=false"},
		{cfg.Auth.KeyFile != "", "since --auth-key-file is for other people than those of this machine"},
		{len(cfg.Auth.AllowOrigins) > 0, "since --allow-origin is for other people than those of this machine"},
	} {
		if c.is {
			return c.why
		}
	}
	return ""
}

// check returns nil or why the request may not go on.
func (g *guard) check(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if err := g.auth.CheckOrigin(origin, r.Host); err != nil {
		return proto.Refuse(proto.Forbidden, "%v", err)
	}
	if origin == "" && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return proto.Refuse(proto.Forbidden, "%v", auth.ErrOrigin)
	}
	if g.tokens {
		shown, ok := auth.Bearer(r.Header.Get("Authorization"))
		sum := sha256.Sum256([]byte(shown))
		if !ok || subtle.ConstantTimeCompare(sum[:], g.token[:]) != 1 {
			return proto.Refuse(proto.Unauthorized, "send the header Authorization: Bearer with the token of --api-token-file")
		}
		return nil
	}
	if g.closed != "" {
		return proto.Refuse(proto.Forbidden, "the HTTP API is off; start the gateway with --api-token-file, %s", g.closed)
	}
	if wire.Proxied(r) {
		return proto.Refuse(proto.Forbidden, "without --api-token-file the HTTP API is for this machine only, and this request came through a proxy")
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !peer.Addr().Unmap().IsLoopback() {
		return proto.Refuse(proto.Forbidden, "without --api-token-file the HTTP API is for this machine only")
	}
	if !daemon.IsLoopback(r.Host) {
		return proto.Refuse(proto.Forbidden, "without --api-token-file the HTTP API answers only as localhost or 127.0.0.1, not as another host")
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method == http.MethodPost && origin != "" && kind != "application/json" {
		return proto.Refuse(proto.Forbidden, "a page must send Content-Type: application/json")
	}
	return nil
}
