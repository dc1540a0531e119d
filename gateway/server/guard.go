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

// guard decides which requests may use the HTTP API. With a token file, every client needs
// the token. Without one, every program of this machine may use the API, unless the gateway
// is configured for other people too. A request through a proxy never counts as local,
// although the proxy may be.
//
// A page in a browser of this machine has the browser's place in the network. So the Host
// must be a name of this machine: otherwise a page could let its own name point here (DNS
// rebinding). And a request from a page must be of a kind that browsers do not send across
// origins without asking first. A guard is immutable and safe for concurrent use.
type guard struct {
	token  [sha256.Size]byte // of the token: hashes have one length, so comparing takes constant time
	tokens bool              // there is a token
	closed string            // how to open the API without a token; "" = this machine may use it
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

// whyClosed returns why even this machine needs a token, or "". A setting that is meant for
// other people shows that they reach this listener too.
func whyClosed(cfg *Config, listen net.Addr) string {
	for _, c := range []struct {
		is  bool
		why string
	}{
		{!daemon.IsLoopback(listen.String()), "or listen on a loopback address"},
		{!cfg.LocalAPI, "or without --local-api=false"},
		{cfg.Auth.KeyFile != "", "because --auth-key-file admits clients of other machines"},
		{len(cfg.Auth.AllowOrigins) > 0, "because --allow-origin admits clients of other machines"},
	} {
		if c.is {
			return c.why
		}
	}
	return ""
}

// check returns nil or the refusal of the request.
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
			return proto.Refuse(proto.Unauthorized, "send the token of --api-token-file in the header Authorization: Bearer")
		}
		return nil
	}
	if g.closed != "" {
		return proto.Refuse(proto.Forbidden, "the HTTP API is off; start the gateway with --api-token-file, %s", g.closed)
	}
	if wire.Proxied(r) {
		return proto.Refuse(proto.Forbidden, "without --api-token-file only this machine may use the HTTP API, and this request came through a proxy")
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !peer.Addr().Unmap().IsLoopback() {
		return proto.Refuse(proto.Forbidden, "without --api-token-file only this machine may use the HTTP API")
	}
	if !daemon.IsLoopback(r.Host) {
		return proto.Refuse(proto.Forbidden, "without --api-token-file the HTTP API accepts only the hosts localhost and 127.0.0.1")
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method == http.MethodPost && origin != "" && kind != "application/json" {
		return proto.Refuse(proto.Forbidden, "a page must send Content-Type: application/json")
	}
	return nil
}
