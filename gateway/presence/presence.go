// Package presence knows which people are in a room, on this gateway and on all others. It also
// sends and receives signals, which are not stored.
//
// A tracker (tracker.go) contains the rules for one room. It does no I/O. [Presence] passes it
// the joins and leaves on this gateway, and the messages of other gateways on room.eph.<p>.<g>.
// Then it sends the messages that the tracker returns. Heartbeats on room.gw.<id> show which
// gateways are alive (peers.go). A request on room.who.<p>.<g> asks which people are in a room
// (inquiry.go).
package presence

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
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

const (
	tickTime   = 100 * time.Millisecond
	maxSignals = 4096    // signals that may wait to be sent; further signals are dropped
	buffer     = 1 << 13 // messages that may wait to be handled; NATS drops further messages, and then the rooms ask again
	signalSize = 1 << 10 // roughly the memory of a signal without its payload, in bytes
	personSize = 128     // roughly the memory of a person in a room, in bytes
	doubtBatch = 1000    // the most rooms that ask the other gateways in one tick
)

// Config configures a Presence.
type Config struct {
	ID     string     // ID of this gateway
	Keys   *seal.Keys // seal payloads; nil = payloads are not sealed
	Log    *slog.Logger
	Memory *limit.Budget // waiting signals count as limit.Says, and people as limit.Rooms
}

// Stats contains a presence's counters. It is safe for concurrent use.
type Stats struct {
	Refused atomic.Uint64 // messages dropped because too many waited or NATS was not connected
	Bad     atomic.Uint64 // messages that the gateway cannot decrypt or parse
}

// Presence tracks the people in all rooms with members on this gateway. It is safe for
// concurrent use. Its methods, except Run, do not block.
type Presence struct {
	// static
	cfg       Config
	stats     *Stats
	feeds     *follow.Feeds
	box       *mailbox.Box[func()] // contains one item for each join, leave and question, and up to maxSignals signals
	queued    atomic.Int64         // number of signals in box
	ephemeral chan *nats.Msg
	in        chan *nats.Msg // all other messages from NATS
	process   string         // identifies this process in heartbeats

	// owned by Run
	nc        *nats.Conn
	inbox     string // prefix of the subjects of shares, followed by a room's token
	rooms     map[proto.Room]*Tracker
	busy      map[proto.Room]*Tracker // trackers that need a Tick
	doubted   []proto.Room            // rooms that must ask the other gateways
	asked     []proto.Room            // rooms that must send their people to roomsvc
	peers     *peers
	inquiries *inquiries
	beats     uint64
	nextBeat  time.Time
	ticked    time.Time
	run       int64 // the last result of nextRun
}

// New returns a Presence. It does nothing until Run is called. The channel ephemeral must
// receive all messages on room.eph.<p>.<g> for followed rooms. The feeds deliver joins, leaves
// and signals to the members.
func New(cfg Config, feeds *follow.Feeds, ephemeral chan *nats.Msg) *Presence {
	return &Presence{
		cfg: cfg, stats: new(Stats), feeds: feeds, box: mailbox.New[func()](), ephemeral: ephemeral,
		in: make(chan *nats.Msg, buffer), process: rand.Text(),
		rooms: make(map[proto.Room]*Tracker), busy: make(map[proto.Room]*Tracker), peers: newPeers(), inquiries: newInquiries(cfg.ID),
	}
}

// Stats returns the presence's counters.
func (p *Presence) Stats() *Stats { return p.stats }

// Signal sends a signal to the members of a room. It copies json. The parameter origin names the
// session that sent the signal. This session does not receive the signal.
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
		if m.Data = json; origin != "" {
			m.Header.Set(headerOrigin, origin)
		}
		p.publish(room, m)
		p.cfg.Memory.Add(limit.Says, -size)
	}) {
		p.cfg.Memory.Add(limit.Says, -size)
	}
}

// Joined says that a session of a person has joined the room on this gateway.
func (p *Presence) Joined(room proto.Room, who proto.Identity) {
	p.box.Put(func() {
		t := p.rooms[room]
		if t == nil {
			now := time.Now()
			t = NewTracker(p.cfg.ID, p.nextRun(now), now)
			p.rooms[room] = t
		}
		p.apply(room, t, Join{who}, "")
	})
}

// nextRun returns a value for [Mark].Run that is greater than all earlier values, even if the clock
// was set back.
func (p *Presence) nextRun(now time.Time) int64 {
	p.run = max(p.run+1, now.UnixNano())
	return p.run
}

// Left says that a session of a person has left the room on this gateway.
func (p *Presence) Left(room proto.Room, who proto.Identity, reason proto.LeaveReason) {
	p.box.Put(func() {
		if t := p.rooms[room]; t != nil {
			p.apply(room, t, Leave{who, reason}, "")
		}
	})
}

// Members asks all gateways which people are in the room. The count is exact, but the list
// contains at most proto.MaxListed people. If a gateway does not answer within a second, its
// people are missing.
func (p *Presence) Members(room proto.Room, done func(count int, list []proto.Member, err error)) {
	if !p.box.Put(func() {
		if err := p.inquiries.ask(p.nc, room, done); err != nil {
			done(0, nil, reads.Unavailable())
		}
	}) {
		done(0, nil, reads.Unavailable())
	}
}

// Reconnected says that this gateway can receive the messages of other gateways again, after an
// interruption.
func (p *Presence) Reconnected() {
	p.box.Put(func() {
		p.peers.restart(time.Now())
		p.beat(proto.GatewayHello)
		p.doubtAll()
	})
}

// Dropped says that NATS has dropped messages, because this gateway read them too slowly.
func (p *Presence) Dropped() { p.box.Put(p.doubtAll) }

// Run runs the presence, with the connection nc, until ctx ends.
func (p *Presence) Run(ctx context.Context, nc *nats.Conn) error {
	p.nc, p.inbox = nc, follow.Inbox(nc)
	p.inquiries.inbox, p.inquiries.started = follow.Inbox(nc), time.Now()
	for _, subject := range []string{proto.SubjectAnyGate, proto.SubjectAnyWho, proto.SubjectPeople, p.inbox + "*", p.inquiries.inbox + "*"} {
		if _, err := nc.ChanSubscribe(subject, p.in); err != nil {
			return err
		}
	}
	p.beat(proto.GatewayHello)
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	var batch []func()
	for {
		select {
		case <-ctx.Done():
			p.beat(proto.GatewayBye)
			for _, do := range p.box.Close() {
				do()
			}
			p.inquiries.end(reads.Unavailable())
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

// tick does the periodic work.
func (p *Presence) tick(now time.Time) {
	if asleep := now.Sub(p.ticked); asleep > deadAfter/2 && !p.ticked.IsZero() {
		p.peers.restart(now) // this process was stopped for a while, so other gateways may think that it has died
		p.beat(proto.GatewayHello)
		p.doubtAll()
	}
	p.ticked = now
	if !now.Before(p.nextBeat) {
		p.beat(proto.GatewayAlive)
	}
	if p.nc.IsConnected() {
		for _, id := range p.peers.timeOut(now) {
			p.cfg.Log.Warn("peer gateway timed out", "gateway", id)
			p.gone(id)
		}
	}
	p.inquiries.timeOut(now)
	n := min(len(p.doubted), doubtBatch)
	for _, room := range p.doubted[:n] {
		if t := p.rooms[room]; t != nil {
			p.apply(room, t, Doubt{}, "")
		}
	}
	p.doubted = p.doubted[n:]
	n = min(len(p.asked), doubtBatch)
	for _, room := range p.asked[:n] {
		if t := p.rooms[room]; t != nil {
			p.apply(room, t, Recount{}, "")
		}
	}
	p.asked = p.asked[n:]
	for room, t := range p.busy {
		p.apply(room, t, Tick{}, "")
	}
}

// apply passes an event to a room's tracker and sends the resulting messages. If the tracker
// returns an answer, apply sends it to the subject reply.
func (p *Presence) apply(room proto.Room, t *Tracker, e Event, reply string) {
	now, before := time.Now(), t.Sum()
	out := t.Apply(e, now)
	p.cfg.Memory.Add(limit.Rooms, personSize*(t.Sum()-before))
	for i := range out.Notices {
		p.feeds.Deliver(follow.Delivery{Room: room, JSON: out.Notices[i].AppendJSON(nil, room)})
	}
	for i := range out.Send {
		m := p.message(room.EphemeralSubject(), &out.Send[i])
		m.Header.Set(proto.HeaderPresence, "1")
		if out.Send[i].Ask {
			m.Reply = p.inbox + room.Token()
		}
		p.publish(room, m)
	}
	for i := range out.Answer {
		m := p.message(cmp.Or(reply, room.EphemeralSubject()), &out.Answer[i])
		if reply == "" { // the answer is for roomsvc; other gateways use only its mark
			m.Header.Set(proto.HeaderPresence, proto.PresenceIsShare)
		}
		p.publish(room, m)
	}
	switch {
	case t.Over(now) && p.nc.IsConnected():
		p.cfg.Memory.Add(limit.Rooms, -personSize*t.Sum())
		delete(p.rooms, room)
		delete(p.busy, room)
	case t.Busy():
		p.busy[room] = t
	default:
		delete(p.busy, room)
	}
}

// people handles a request of roomsvc. It makes the named rooms send their people in the next
// ticks.
func (p *Presence) people(m *nats.Msg) {
	var ask proto.AskPeople
	if err := json.Unmarshal(m.Data, &ask); err != nil {
		p.stats.Bad.Add(1)
		return
	}
	wanted := make(map[proto.Room]bool, len(ask.Rooms))
	for _, room := range p.asked {
		wanted[room] = true
	}
	for _, name := range ask.Rooms {
		if room, err := proto.ParseRoom(name); err == nil {
			wanted[room] = true
		}
	}
	for room := range p.rooms {
		if slices.Contains(ask.Partitions, room.Partition()) {
			wanted[room] = true
		}
	}
	p.asked = slices.Collect(maps.Keys(wanted))
}

// control handles a heartbeat, a share, a question or an answer to a question.
func (p *Presence) control(m *nats.Msg) {
	switch token, share := strings.CutPrefix(m.Subject, p.inbox); {
	case share:
		p.shared(token, m)
	case strings.HasPrefix(m.Subject, p.inquiries.inbox):
		if err := p.inquiries.answered(m, p.cfg.Keys, p.peers.alive); err != nil {
			p.stats.Bad.Add(1)
		}
	case m.Subject == proto.SubjectPeople:
		p.people(m)
	case strings.HasPrefix(m.Subject, "room.who."):
		p.serve(m)
	default:
		p.heard(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], m.Data)
	}
}

// serve answers a question with the people in the room on this gateway.
func (p *Presence) serve(m *nats.Msg) {
	room, err := proto.RoomOfSubject(m.Subject)
	if err != nil || !proto.Answerable(m.Reply) {
		return
	}
	a := proto.Present{Gateway: p.cfg.ID}
	if t := p.rooms[room]; t != nil && len(t.here.list) > 0 {
		a.Count, a.Total, a.List = len(t.here.list), t.Count(), t.here.list[:min(len(t.here.list), proto.MaxListed)]
	}
	out := p.message(m.Reply, a)
	out.Data = p.cfg.Keys.Seal(room, seal.Who, "", out.Data)
	_ = p.nc.PublishMsg(out) // if NATS is not connected, the inquiry ends without this answer
}

// beat sends a heartbeat. If NATS is not connected, other gateways notice that heartbeats are
// missing.
func (p *Presence) beat(state proto.HeartbeatState) {
	p.nextBeat = time.Now().Add(beatEvery)
	p.beats++
	_ = p.nc.Publish(proto.GatewaySubject(p.cfg.ID), []byte(proto.Heartbeat{State: state, Process: p.process, Number: p.beats}.String()))
}

// heard handles a heartbeat of another gateway.
func (p *Presence) heard(id string, data []byte) {
	h, err := proto.ParseHeartbeat(data)
	if err != nil || id == p.cfg.ID {
		return
	}
	n := p.peers.hear(id, h, time.Now())
	if n.gone {
		p.gone(id)
	}
	if n.reply {
		p.nextBeat = time.Now() // send a heartbeat at the next tick
	}
	if n.doubt {
		p.doubtAll()
	}
}

// gone removes the people of another gateway from all rooms.
func (p *Presence) gone(id string) {
	for room, t := range p.rooms {
		if t.others[id] != nil {
			p.apply(room, t, Gone{id}, "")
		}
	}
}

// doubtAll makes all rooms ask the other gateways, because messages may have been lost.
func (p *Presence) doubtAll() {
	p.doubted = p.doubted[:0:0]
	for room := range p.rooms {
		p.doubted = append(p.doubted, room)
	}
}
