package presence

import (
	"time"

	"roomcast/proto"
)

const (
	beatEvery = 2 * time.Second
	deadAfter = 7 * time.Second // a gateway counts as dead after this time without a heartbeat
)

// peers knows which other gateways are alive. It does no I/O. One goroutine owns it.
type peers struct {
	alive   map[string]peer
	expired map[string]bool // gateways that have timed out and have not come back
}

type peer struct {
	process string // "" = no heartbeat of the gateway has arrived yet
	number  uint64
	heard   time.Time
}

func newPeers() *peers { return &peers{alive: make(map[string]peer), expired: make(map[string]bool)} }

// news says what a heartbeat means.
type news struct {
	gone  bool // the gateway has stopped, or a new process has taken its place
	doubt bool // messages of the gateway may have been lost
	reply bool // the gateway does not know this gateway yet, so send it a heartbeat
}

func (p *peers) hear(id string, h proto.Heartbeat, now time.Time) (n news) {
	old, known := p.alive[id]
	if h.State == proto.GatewayBye {
		delete(p.alive, id)
		return news{gone: true}
	}
	named := known && old.process != ""
	n.gone = named && old.process != h.Process
	n.doubt = p.expired[id] || named && !n.gone && h.Number > old.number+1
	n.reply = !known || n.gone || h.State == proto.GatewayHello
	delete(p.expired, id)
	p.alive[id] = peer{h.Process, h.Number, now}
	return n
}

// seen records that a gateway has sent a message. If the gateway was unknown, it counts as alive
// now. If no heartbeats follow, it times out.
func (p *peers) seen(id string, now time.Time) {
	if _, known := p.alive[id]; !known {
		p.alive[id] = peer{heard: now}
	}
}

// timeOut removes the gateways that have been silent for too long, and returns them.
func (p *peers) timeOut(now time.Time) (gone []string) {
	for id, peer := range p.alive {
		if now.Sub(peer.heard) > deadAfter {
			delete(p.alive, id)
			p.expired[id] = true
			gone = append(gone, id)
		}
	}
	return gone
}

// restart gives all gateways their full time limit again. It is called when this gateway could not
// receive heartbeats for a while.
func (p *peers) restart(now time.Time) {
	for id, peer := range p.alive {
		peer.heard = now
		p.alive[id] = peer
	}
}
