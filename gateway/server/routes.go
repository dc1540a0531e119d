package server

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	"roomcast/gateway/auth"
	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/gateway/web"
	"roomcast/proto"
)

// routes returns everything on the public port that is not a WebSocket handshake.
func routes(cfg *Config, b *bridge.Bridge, memory *limit.Budget, who *auth.Auth, listen net.Addr) (http.Handler, error) {
	guard, err := newGuard(cfg.APITokenFile, listen, who)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	(&api{bridge: b, memory: memory, guard: guard, maxMessage: cfg.MaxMessage, log: cfg.Log}).register(mux)
	page := web.New()
	mux.Handle("/", page)
	room := room(page)
	mux.HandleFunc("GET /room/{room}", room)
	mux.HandleFunc("GET /room/{room}/{$}", room)
	mux.HandleFunc("GET /ws", wantsUpgrade)
	return mux, nil
}

// room answers who opens a room's address without speaking WebSocket: a browser gets
// the page, which goes on from there.
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
	fmt.Fprintln(w, "this address speaks WebSocket; open it with a WebSocket client, or / with a browser")
}
