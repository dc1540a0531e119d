package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"roomcast/gateway/auth"
	"roomcast/gateway/limit"
	"roomcast/gateway/session"
	"roomcast/gateway/wire"
)

// door is the first handler of every request. If the request comes through a trusted proxy, door
// finds out which client sent it. It also checks the host and the path prefix. A door never
// changes, so it is safe for concurrent use.
type door struct {
	prefix  string // prefix of all paths, such as /chat
	auth    *auth.Auth
	proxies limit.Proxies
	log     *slog.Logger
	inside  http.Handler
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if wire.WantsWebSocket(r) || wire.WantsStream(r) { // the event loop answers such a request
		if err := session.TakeBack(w, r); err != nil {
			d.log.Error("cannot return connection to its event loop", "error", err)
		}
		return
	}
	r = d.forwarded(r)
	path, below := strings.CutPrefix(r.URL.Path, d.prefix)
	switch err := d.auth.CheckHost(r.Host, wire.Proxied(r)); {
	case err != nil:
		http.Error(w, err.Error(), http.StatusForbidden)
	case r.Method == http.MethodOptions && (strings.HasPrefix(path, "/api/") || wire.StreamOf(path) != nil):
		d.preflight(w, r)
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS") // proxies use these methods for health checks
		w.WriteHeader(http.StatusNoContent)
	case below && path == "" && d.prefix != "":
		u := url.URL{Path: d.prefix + "/", RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, u.String(), http.StatusMovedPermanently)
	case !below || !strings.HasPrefix(path, "/"):
		http.Error(w, "not found; every path begins with "+d.prefix+"/", http.StatusNotFound)
	default:
		d.inside.ServeHTTP(w, r)
	}
}

// preflight tells a browser which requests a page of another origin may send. It requires no
// token, because browsers send no token with a preflight request.
func (d *door) preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Allow", "GET, POST, OPTIONS")
	if !nameOrigin(w, r, d.auth) {
		http.Error(w, auth.ErrOrigin.Error(), http.StatusForbidden)
		return
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Roomcast-Resume")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

// nameOrigin allows the page that sent a request to read the answer, if the page's origin is
// allowed. The answer contains Vary: Origin, so that caches do not give it to a page of another
// origin.
func nameOrigin(w http.ResponseWriter, r *http.Request, a *auth.Auth) (allowed bool) {
	w.Header().Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if a.CheckOrigin(origin, siteOf(r)) != nil {
		return false
	}
	if origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
	}
	return true
}

// siteKey is the context key of a request's [auth.Site], for requests from a trusted proxy.
type siteKey struct{}

// forwarded returns a request from a trusted proxy with the address and site of the proxy's
// client. It returns any other request unchanged.
func (d *door) forwarded(r *http.Request) *http.Request {
	peer := addressOf(r)
	if !d.proxies.Trust(peer) {
		return r
	}
	site := auth.Site{Host: r.Host}.Forwarded(strings.Join(r.Header["X-Forwarded-Proto"], ","), strings.Join(r.Header["X-Forwarded-Host"], ","))
	client := d.proxies.Client(peer, strings.Join(r.Header["X-Forwarded-For"], ","))
	r = r.WithContext(context.WithValue(r.Context(), siteKey{}, site))
	if r.Host = site.Host; client != peer {
		r.RemoteAddr = net.JoinHostPort(client.String(), "0")
	}
	return r
}

// siteOf returns the site that the client has addressed with its request.
func siteOf(r *http.Request) auth.Site {
	if site, forwarded := r.Context().Value(siteKey{}).(auth.Site); forwarded {
		return site
	}
	return auth.Site{Host: r.Host}
}

// addressOf returns the address of the client. If the request has no address, the result is not
// valid.
func addressOf(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	return peer.Addr().Unmap()
}

// sharesAddress reports whether the request's address is that of an untrusted proxy. Then many
// clients may share the address.
func sharesAddress(r *http.Request) bool {
	_, trusted := r.Context().Value(siteKey{}).(auth.Site)
	return wire.Proxied(r) && !trusted
}
