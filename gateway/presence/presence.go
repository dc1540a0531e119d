// Package presence knows which people are in a room, on this gateway and on all others. It also
// sends and receives signals, which rooms do not store.
//
// A tracker (tracker.go) holds the rules of one room and does no I/O. Presence passes it this
// gateway's joins and leaves, and the messages of other gateways on room.eph.<p>.<g>. It sends the
// messages that the tracker returns. Heartbeats on room.gw.<id> show which gateways are alive
// (peers.go). Anybody may ask on room.who.<p>.<g> for the people in a room (inquiry.go).
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
	maxSignals = 4096    // signals that wait to be sent; more are dropped
	buffer     = 1 << 13 // messages that wait to be handled; NATS drops more, after which the rooms ask again
	signalSize = 1 << 10 // memory of a signal without its payload, roughly, in bytes
	personSize = 128     // memory of a person in a room, roughly, in bytes
	doubtBatch = 1000    // rooms that ask the other gateways in one tick
)

// Config is the configuration of a presence.
type Config struct {
	ID     string     // of this gateway
	Keys   *seal.Keys // nil = payloads travel in plain text
	Log    *slog.Logger
	Memory *limit.Budget // waiting signals count as limit.Says, people as limit.Rooms
}

// Stats counts what a presence does. It is safe for concurrent use.
type Stats struct {
	Refused atomic.Uint64 // messages dropped because too many waited or NATS was away
	Bad     atomic.Uint64 // messages that the gateway cannot open or understand
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
	process   string         // names this process in heartbeats

	// owned by Run
	nc        *nats.Conn
	inbox     string // prefix of the subjects of shares; a room's token follows
	rooms     map[proto.Room]*Tracker
	busy      map[proto.Room]*Tracker // trackers that need ticks
	doubted   []proto.Room            // rooms that will ask the other gateways
	asked     []proto.Room            // rooms that will send their people to roomsvc
	peers     *peers
	inquiries *inquiries
	beats     uint64
	nextBeat  time.Time
	ticked    time.Time
	run       int64 // the last result of nextRun
}

// New returns a presence that does nothing before Run. The caller passes all messages on
// room.eph.<p>.<g> of the followed rooms to ephemeral. Feeds bring the joins and leaves to members.
func New(cfg Config, feeds *follow.Feeds, ephemeral chan *nats.Msg) *Presence {
	return &Presence{
		cfg: cfg, stats: new(Stats), feeds: feeds, box: mailbox.New[func()](), ephemeral: ephemeral,
		in: make(chan *nats.Msg, buffer), process: rand.Text(),
		rooms: make(map[proto.Room]*Tracker), busy: make(map[proto.Room]*Tracker), peers: newPeers(), inquiries: newInquiries(cfg.ID),
	}
}

// Stats returns the presence's counters.
func (p *Presence) Stats() *Stats { return p.stats }

// Signal sends a frame that is not stored to the members of a room. It copies json. Origin is the
// session that sent the signal, and that does not get it back.
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

// Joined reports that a session of a person has joined the room.
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

// nextRun returns a run that is larger than all earlier ones, even if the clock is set back.
func (p *Presence) nextRun(now time.Time) int64 {
	p.run = max(p.run+1, now.UnixNano())
	return p.run
}

// Left reports that a session of a person has left the room.
func (p *Presence) Left(room proto.Room, who proto.Identity, reason proto.LeaveReason) {
	p.box.Put(func() {
		if t := p.rooms[room]; t != nil {
			p.apply(room, t, Leave{who, reason}, "")
		}
	})
}

// Members asks all gateways for the people in the room. The count is exact; the list ends at
// proto.MaxListed. A gateway that does not answer within a second is left out.
func (p *Presence) Members(room proto.Room, done func(count int, list []proto.Member, err error)) {
	if !p.box.Put(func() {
		if err := p.inquiries.ask(p.nc, room, done); err != nil {
			done(0, nil, reads.Unavailable())
		}
	}) {
		done(0, nil, reads.Unavailable())
	}
}

// Reconnected reports that this gateway can receive the messages of the others again, after an
// interruption.
func (p *Presence) Reconnected() {
	p.box.Put(func() {
		p.peers.restart(time.Now())
		p.beat(proto.GatewayHello)
		p.doubtAll()
	})
}

// Dropped reports that NATS has dropped messages because this gateway was too slow.
func (p *Presence) Dropped() { p.box.Put(p.doubtAll) }

// Run serves over nc until ctx ends.
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

// tick does what is due.
func (p *Presence) tick(now time.Time) {
	if asleep := now.Sub(p.ticked); asleep > deadAfter/2 && !p.ticked.IsZero() {
		p.peers.restart(now) // this process was stopped, and the others may think that it has died
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

// apply applies an event to a room's tracker and carries out the consequences. The
// answer, if e asks for one, goes to the subject reply.
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

// people makes the rooms that roomsvc names send their people in the next ticks.
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

// control handles a heartbeat, a share, a question or an answer.
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

// serve answers with the people on this gateway.
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
	_ = p.nc.PublishMsg(out) // without NATS the inquiry ends without this answer
}

// beat sends a heartbeat. Without NATS the others notice the silence.
func (p *Presence) beat(state proto.HeartbeatState) {
	p.nextBeat = time.Now().Add(beatEvery)
	p.beats++
	_ = p.nc.Publish(proto.GatewaySubject(p.cfg.ID), []byte(proto.Heartbeat{State: state, Process: p.process, Number: p.beats}.String()))
}

// heard handles a heartbeat.
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
		p.nextBeat = time.Now() // at the next tick
	}
	if n.doubt {
		p.doubtAll()
	}
}

// gone removes the people of a gateway from all rooms.
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
