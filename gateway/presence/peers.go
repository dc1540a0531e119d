package presence

import (
	"time"

	"roomcast/proto"
)

const (
	beatEvery = 2 * time.Second
	deadAfter = 7 * time.Second // without a heartbeat
)

// peers knows which other gateways are alive. It is pure, and belongs to one goroutine.
type peers struct {
	alive   map[string]peer
	expired map[string]bool // gateways that timed out and have not returned
}

type peer struct {
	process string // "" = no heartbeat has come yet
	number  uint64
	heard   time.Time
}

func newPeers() *peers { return &peers{alive: make(map[string]peer), expired: make(map[string]bool)} }

// news holds the conclusions from a heartbeat.
type news struct {
	gone  bool // the gateway has stopped, or another process has taken its place
	doubt bool // messages of the gateway may have been lost
	reply bool // the gateway does not know this one: send it a heartbeat
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

// seen records that a gateway has sent a message. If the gateway was not known, this may have been
// its last message: it times out unless heartbeats follow.
func (p *peers) seen(id string, now time.Time) {
	if _, known := p.alive[id]; !known {
		p.alive[id] = peer{heard: now}
	}
}

// timeOut forgets the gateways that have been silent for too long, and returns them.
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

// restart gives all peers their full time again, because this gateway could not receive their
// heartbeats for a while.
func (p *peers) restart(now time.Time) {
	for id, peer := range p.alive {
		peer.heard = now
		p.alive[id] = peer
	}
}
