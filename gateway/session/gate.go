package session

import (
	"net/http"
	"net/netip"
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
)

// gate is the [loop.Gate] of the gateway. It refuses connections with an HTTP status, and is
// safe for concurrent use.
type gate struct{ caps *limit.Caps }

// NewGate returns the gate that loops ask about new connections. A connection that the gate
// accepts counts in caps until the connection ends. The sessions of these loops must use the same
// caps.
func NewGate(caps *limit.Caps) loop.Gate { return gate{caps} }

func (g gate) Enter(peer netip.Addr, now time.Time) ([]byte, bool) {
	r := g.caps.Open(peer, now)
	if r == nil {
		return nil, true
	}
	return wire.AppendRefusal(nil, &wire.Refusal{Status: http.StatusServiceUnavailable, Reason: r.Message}), false
}

func (g gate) Leave(peer netip.Addr) { g.caps.Close(peer) }
