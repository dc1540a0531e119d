package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"roomcast/gateway/auth"
	"roomcast/proto"
)

// guard decides who may use the HTTP API. With a token: whoever shows it. Without:
// programs of this machine, if the listener is on loopback. Then a page in this
// machine's browser is the danger, for the browser reaches what the page cannot:
// hence the Host must be a name of this machine (or a page could have its own name
// point here, DNS rebinding), and a request that comes from a page must be one that
// browsers ask about before they send it across origins.
type guard struct {
	token  [sha256.Size]byte // of the token, so that comparing takes the same time for all
	tokens bool              // whether there is one
	local  bool              // the listener is on loopback
	auth   *auth.Auth
}

func newGuard(tokenFile string, listen net.Addr, a *auth.Auth) (guard, error) {
	g := guard{auth: a, local: auth.IsLoopback(listen.String())}
	if tokenFile == "" {
		return g, nil
	}
	token, err := readToken(tokenFile)
	if err != nil {
		return g, fmt.Errorf("--api-token-file: %w", err)
	}
	g.token, g.tokens = sha256.Sum256(token), true
	return g, nil
}

// check returns nil or why the request may not go on.
func (g *guard) check(r *http.Request) error {
	if g.tokens {
		shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(strings.TrimSpace(shown)))
		if !ok || subtle.ConstantTimeCompare(sum[:], g.token[:]) != 1 {
			return proto.Refuse(proto.Unauthorized, "send the header Authorization: Bearer with the token of --api-token-file")
		}
		return nil
	}
	if !g.local {
		return proto.Refuse(proto.Forbidden, "the HTTP API is off; start the gateway with --api-token-file, or listen on a loopback address")
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !peer.Addr().Unmap().IsLoopback() {
		return proto.Refuse(proto.Forbidden, "without --api-token-file the HTTP API is for this machine only")
	}
	if !auth.IsLoopback(r.Host) {
		return proto.Refuse(proto.Forbidden, "without --api-token-file the HTTP API answers only as localhost or 127.0.0.1, not as another host")
	}
	origin := r.Header.Get("Origin")
	if err := g.auth.CheckOrigin(origin, r.Host); err != nil {
		return proto.Refuse(proto.Forbidden, "%v", err)
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method == http.MethodPost && origin != "" && kind != "application/json" {
		return proto.Refuse(proto.Forbidden, "a page must send Content-Type: application/json")
	}
	return nil
}
