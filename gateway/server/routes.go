package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/gateway/session"
	"roomcast/gateway/web"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// routes returns the handler of everything on the public port except handshakes that begin
// a connection.
func routes(cfg *Config, b *bridge.Bridge, memory *limit.Budget, who *auth.Auth, ask *backend.Backend, listen net.Addr) (http.Handler, error) {
	guard, err := newGuard(cfg, listen, who, ask)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	(&api{bridge: b, memory: memory, guard: guard, auth: who, backend: ask, maxMessage: cfg.MaxMessage, log: cfg.Log}).register(mux)
	page := web.New()
	mux.Handle("/", page)
	room := room(page)
	mux.HandleFunc("GET /room/{room}", room)
	mux.HandleFunc("GET /room/{room}/{$}", room)
	mux.HandleFunc("GET /ws", wantsUpgrade)
	return &door{prefix: cfg.PathPrefix, auth: who, log: cfg.Log, inside: http.StripPrefix(cfg.PathPrefix, mux)}, nil
}

// door is the first handler of every request: it checks the host and the path prefix. It is
// immutable and safe for concurrent use.
type door struct {
	prefix string // of all paths, such as /chat
	auth   *auth.Auth
	log    *slog.Logger
	inside http.Handler
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, below := strings.CutPrefix(r.URL.Path, d.prefix)
	switch err := d.auth.CheckHost(r.Host, wire.Proxied(r)); {
	case wire.WantsWebSocket(r) || wire.WantsEvents(r): // the event loop checks the rest
		if err := session.TakeBack(w, r); err != nil {
			d.log.Error("cannot return connection to its event loop", "error", err)
		}
	case err != nil:
		http.Error(w, err.Error(), http.StatusForbidden)
	case r.Method == http.MethodOptions && !strings.HasPrefix(path, "/api/"):
		w.Header().Set("Allow", "GET, HEAD, OPTIONS") // health checks of proxies
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

// room answers a plain HTTP request for a room's address: a browser gets the page, which
// then connects.
func room(page *web.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := proto.ParseRoom(r.PathValue("room")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			page.Page(w, r)
			return
		}
		wantsUpgrade(w, r)
	}
}

func wantsUpgrade(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Upgrade", "websocket")
	w.WriteHeader(http.StatusUpgradeRequired)
	fmt.Fprintln(w, "this address needs a WebSocket client; open / with a browser")
}
