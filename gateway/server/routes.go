package server

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/gateway/web"
	"roomcast/proto"
)

// routes returns the handler for all HTTP requests on the public port. It does not receive a
// handshake at the beginning of a connection, because the event loops answer it.
func routes(cfg *Config, b *bridge.Bridge, memory *limit.Budget, rates *limit.Rates, who *auth.Auth, ask *backend.Backend, listen net.Addr, proxies limit.Proxies) (http.Handler, error) {
	guard, err := newGuard(cfg, listen, who, ask)
	if err != nil {
		return nil, err
	}
	guard.refreshKeys = b.RefreshKeys
	mux := http.NewServeMux()
	(&api{
		bridge: b, memory: memory, guard: guard, auth: who, backend: ask, maxMessage: cfg.MaxMessage, log: cfg.Log,
		rate: limit.Rate{PerSecond: cfg.Rate, Burst: cfg.Burst}, rates: rates,
	}).register(mux)
	page := web.New()
	mux.Handle("/", page)
	room := room(page)
	mux.HandleFunc("GET /room/{room}", room)
	mux.HandleFunc("GET /room/{room}/{$}", room)
	mux.HandleFunc("GET /ws", wantsUpgrade)
	return &door{prefix: cfg.PathPrefix, auth: who, proxies: proxies, log: cfg.Log, inside: http.StripPrefix(cfg.PathPrefix, mux)}, nil
}

// room answers a plain HTTP request for the address of a room. A browser gets the page, which
// then connects to the room.
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
