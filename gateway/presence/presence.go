// Package presence knows who is in a room, on this gateway and on all others, and carries
// what rooms do not store: signals, joins and leaves.
package presence

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/follow"
	"roomcast/gateway/limit"
	"roomcast/gateway/mailbox"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/seal"
)

// Headers of what gateways send each other on room.eph.<p>.<g>.
const (
	headerOrigin = "Rc-Origin" // of a signal: the session that sent it
	headerHere   = "Rc-Here"   // of a join or leave: the gateway's id, and how many members it has in the room
)

const (
	tick       = 100 * time.Millisecond
	maxSignals = 4096    // signals that wait to be sent; more are dropped
	buffer     = 1 << 13 // messages that wait to be handled; NATS drops more
	signalSize = 1 << 10 // about what a signal costs beside its payload, in bytes
)

// Config is what a presence needs.
type Config struct {
	ID     string     // of this gateway
	Keys   *seal.Keys // nil = payloads travel in plain text
	Log    *slog.Logger
	Memory *limit.Budget // waiting signals count as limit.Says
}

// Stats counts what a presence does. It is safe for concurrent use.
type Stats struct {
	Refused atomic.Uint64 // signals dropped because too many waited or NATS was away
	Bad     atomic.Uint64 // messages that the gateway cannot open
}

// Presence is safe for concurrent use. Its methods do not block.
type Presence struct {
	// static
	cfg       Config
	stats     *Stats
	feeds     *follow.Feeds
	box       *mailbox.Box[func()] // one item for each join, leave and question, and maxSignals signals
	queued    atomic.Int64         // signals in box
	ephemeral chan *nats.Msg
	in        chan *nats.Msg // everything else

	// owned by Run
	nc     *nats.Conn
	home   string // prefix of the subjects of answers
	rooms  map[proto.Room]*room
	dirty  []*room // rooms whose count is to be told at the next tick
	peers  *peers
	ticked time.Time
}

// New returns a presence that does nothing before Run. The caller passes what arrives on
// room.eph.<p>.<g> of the followed rooms to ephemeral.
func New(cfg Config, feeds *follow.Feeds, ephemeral chan *nats.Msg) *Presence {
	return &Presence{
		cfg: cfg, stats: new(Stats), feeds: feeds, box: mailbox.New[func()](), ephemeral: ephemeral,
		in: make(chan *nats.Msg, buffer), rooms: make(map[proto.Room]*room), peers: newPeers(),
	}
}

// Stats returns the presence's counters.
func (p *Presence) Stats() *Stats { return p.stats }

// Run serves over nc until ctx ends.
func (p *Presence) Run(ctx context.Context, nc *nats.Conn) error {
	p.nc, p.home = nc, follow.Inbox(nc)
	p.peers.started = time.Now()
	for _, subject := range []string{proto.SubjectAnyGate, proto.SubjectAnyWho, p.home + "*"} {
		if _, err := nc.ChanSubscribe(subject, p.in); err != nil {
			return err
		}
	}
	p.sign(signHello)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var batch []func()
	for {
		select {
		case <-ctx.Done():
			p.sign(signBye)
			for _, do := range p.box.Close() {
				do()
			}
			for _, q := range p.peers.pending {
				q.finish(reads.Unavailable())
			}
			return nil
		case <-p.box.Wake():
			batch = p.box.Take(batch)
			for _, do := range batch {
				do()
			}
		case m := <-p.ephemeral:
			p.arrived(m)
		case m := <-p.in:
			p.control(m)
		case now := <-ticker.C:
			p.tick(now)
		}
	}
}

// Signal tells those present something that is not stored. JSON is the whole frame, which
// is copied. Origin is the session that does not want it back.
func (p *Presence) Signal(room proto.Room, json []byte, origin string) {
	size := len(json) + signalSize
	if p.queued.Add(1) > maxSignals || !p.cfg.Memory.Take(limit.Says, size) {
		p.queued.Add(-1)
		p.stats.Refused.Add(1)
		return
	}
	json = bytes.Clone(json)
	if !p.box.Put(func() {
		p.queued.Add(-1)
		m := nats.NewMsg(room.EphemeralSubject())
		m.Data = json
		if origin != "" {
			m.Header.Set(headerOrigin, origin)
		}
		p.publish(room, m)
		p.cfg.Memory.Add(limit.Says, -size)
	}) {
		p.cfg.Memory.Add(limit.Says, -size)
	}
}

// Joined tells those present that a member has come.
func (p *Presence) Joined(room proto.Room, who proto.Identity) {
	p.box.Put(func() { p.joined(room, who) })
}

// Left tells those present that a member has gone.
func (p *Presence) Left(room proto.Room, who proto.Identity, reason proto.LeaveReason) {
	p.box.Put(func() { p.left(room, who, reason) })
}

// Members asks all gateways who is in the room. The list ends at proto.MaxListed.
func (p *Presence) Members(room proto.Room, done func(count int, list []proto.Identity, err error)) {
	if !p.box.Put(func() { p.ask(room, done) }) {
		done(0, nil, reads.Unavailable())
	}
}

// Reconnected tells the presence that NATS was away and is back.
func (p *Presence) Reconnected() {
	p.box.Put(func() {
		p.back()
		p.recount()
	})
}

// publish sends what is not stored. While NATS is away it is lost.
func (p *Presence) publish(room proto.Room, m *nats.Msg) {
	m.Data = p.cfg.Keys.Seal(room, seal.Ephemeral, seal.Headers(m.Header), m.Data)
	if p.cfg.Keys != nil {
		m.Header.Set(proto.HeaderEnc, seal.Mark)
	}
	if err := p.nc.PublishMsg(m); err != nil {
		p.stats.Refused.Add(1)
	}
}

// open returns the plain payload of a message that is not stored.
func (p *Presence) open(room proto.Room, m *nats.Msg) ([]byte, error) {
	if m.Header.Get(proto.HeaderEnc) == "" {
		return m.Data, p.cfg.Keys.CheckPlain()
	}
	return p.cfg.Keys.Open(room, seal.Ephemeral, seal.Headers(m.Header), m.Data)
}

// arrived handles a signal, a join or a leave, those of this gateway too.
func (p *Presence) arrived(m *nats.Msg) {
	name, err := proto.RoomOfSubject(m.Subject)
	if err != nil {
		return
	}
	data, err := p.open(name, m)
	if err != nil {
		p.stats.Bad.Add(1)
		return
	}
	if here := m.Header.Get(headerHere); here != "" {
		p.changed(name, here, m.Reply)
	}
	p.feeds.Deliver(follow.Delivery{Room: name, JSON: data, Origin: m.Header.Get(headerOrigin)})
}

// control handles a heartbeat, a question or an answer.
func (p *Presence) control(m *nats.Msg) {
	switch {
	case strings.HasPrefix(m.Subject, p.home):
		p.answered(m)
	case strings.HasPrefix(m.Subject, "room.who."):
		if proto.Answerable(m.Reply) {
			p.serve(m)
		}
	default:
		p.signed(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], string(m.Data))
	}
}
