package events

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// Times of the type people. When a gateway dies, people notices it after silentTime and asks the
// other gateways. Their answers arrive well within ten seconds after the death.
const (
	tickTime    = 100 * time.Millisecond
	silentTime  = 5 * time.Second  // time without a heartbeat after which a gateway counts as dead; heartbeats come every two seconds
	settleTime  = 2 * time.Second  // how long to wait for the answers of all gateways
	believeTime = 5 * time.Second  // how long to wait for the result of lookUp
	forgetTime  = 10 * time.Second // how long an empty room stays in memory; gateways may still repeat its marks for three seconds
	askPause    = 500 * time.Millisecond
	sweepPause  = 500 * time.Millisecond // between two checks of all rooms of a partition
	unasked     = time.Hour              // crowd.settle is this far in the future while the question has not been sent
)

const (
	maxAsked   = 500     // rooms in one question
	maxPending = 4096    // published events without an acknowledgment of the stream
	buffer     = 1 << 14 // messages of gateways that wait for run; nats.go drops further messages, and people then asks the gateways
)

// people sends applications the joins and leaves in the rooms of the partitions that this instance
// owns. It receives the messages between gateways. If a message may be lost, it asks all gateways
// who is in the rooms. Then it sends one event for each room, which lists the people in the room.
// It belongs to the goroutine of run.
type people struct {
	e      *Events
	js     jetstream.JetStream // publishes without waiting for the acknowledgment
	heard  chan *nats.Msg
	found  chan belief
	failed chan proto.Room // rooms for which an event could not be stored

	partitions [proto.Partitions]*owned // nil = not owned
	gateways   map[string]gateway
	ask        proto.AskPeople // the next question to the gateways
	asked      time.Time       // when the last question was sent
	reconnects uint64
	dropped    int
	tasks      sync.WaitGroup
}

// owned is a partition that this instance owns.
type owned struct {
	sub    *nats.Subscription
	rooms  map[proto.Room]*crowd
	settle time.Time // like crowd.settle, for all rooms of the partition
	swept  time.Time // when the rooms of the partition were last checked
	known  bool      // the result of lookUp has been applied
}

type gateway struct {
	process string
	number  uint64
	heard   time.Time // when the last heartbeat arrived; zero = the gateway counts as dead
}

func newPeople(e *Events) *people {
	return &people{
		e: e, heard: make(chan *nats.Msg, buffer), found: make(chan belief, 1),
		failed: make(chan proto.Room, maxPending), gateways: make(map[string]gateway),
	}
}

func (p *people) run(ctx context.Context) {
	var err error
	p.js, err = jetstream.New(p.e.nc, jetstream.WithPublishAsyncMaxPending(maxPending),
		jetstream.WithPublishAsyncTimeout(10*time.Second), jetstream.WithPublishAsyncErrHandler(p.unstored))
	if err == nil {
		_, err = p.e.nc.ChanSubscribe(proto.SubjectAnyGate, p.heard)
	}
	if err != nil {
		p.e.svc.Log.Error("subscribe to messages of gateways", "error", err)
		return
	}
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			p.tasks.Wait()
			select {
			case <-p.js.PublishAsyncComplete():
			case <-time.After(time.Second):
			}
			return
		case m := <-p.heard:
			p.hear(m, time.Now())
		case b := <-p.found:
			p.believe(b, time.Now())
		case room := <-p.failed:
			p.recheck(room, time.Now())
		case now := <-ticker.C:
			p.tick(ctx, now)
		}
	}
}

// tick does all work that depends on the time.
func (p *people) tick(ctx context.Context, now time.Time) {
	p.own(now)
	p.checkLink(now)
	for id, g := range p.gateways {
		if !g.heard.IsZero() && now.Sub(g.heard) > silentTime && p.e.nc.IsConnected() {
			g.heard = time.Time{}
			p.gateways[id] = g
			p.gone(id, now)
		}
	}
	if (len(p.ask.Partitions) > 0 || len(p.ask.Rooms) > 0) && now.Sub(p.asked) >= askPause {
		p.sendQuestion(ctx, now)
	}
	for _, s := range p.partitions {
		if s != nil {
			p.settle(s, now)
		}
	}
}

// own subscribes to partitions that this instance now owns, and unsubscribes from partitions that
// it has lost.
func (p *people) own(now time.Time) {
	for number, s := range p.partitions {
		ours := p.e.svc.Owns(number)
		switch {
		case ours && s == nil:
			sub, err := p.e.nc.ChanSubscribe(proto.EphemeralPartition(number), p.heard)
			if err != nil {
				continue // the next tick tries again
			}
			p.partitions[number] = &owned{sub: sub}
			p.recheckPartition(number, now)
		case !ours && s != nil:
			_ = s.sub.Unsubscribe() // an error means that there is no connection, and so no subscription
			p.partitions[number] = nil
		}
	}
}

// checkLink asks all gateways again if messages may have been lost. They may be lost after a
// reconnect, or when nats.go has dropped some.
func (p *people) checkLink(now time.Time) {
	dropped, reconnects := 0, p.e.nc.Stats().Reconnects
	for _, s := range p.partitions {
		if s != nil {
			n, _ := s.sub.Dropped()
			dropped += n
		}
	}
	if reconnects != p.reconnects || dropped > p.dropped {
		p.recheckAll(now)
		for id, g := range p.gateways {
			g.heard = now
			p.gateways[id] = g
		}
	}
	p.reconnects, p.dropped = reconnects, dropped
}

// hear handles a message from a gateway.
func (p *people) hear(m *nats.Msg, now time.Time) {
	if id, beat := strings.CutPrefix(m.Subject, proto.GatewaySubject("")); beat {
		p.beat(id, m.Data, now)
		return
	}
	kind := m.Header.Get(proto.HeaderPresence)
	room, err := proto.RoomOfSubject(m.Subject)
	if err != nil || kind == "" || p.partitions[room.Partition()] == nil {
		return
	}
	data, err := p.e.svc.Keys.OpenMessage(room, seal.Ephemeral, m.Header, m.Data)
	if err != nil {
		return
	}
	c := p.crowd(room, now)
	var list []news
	behind := false
	if kind == proto.PresenceIsShare {
		var s proto.PresenceShare
		if json.Unmarshal(data, &s) == nil {
			list = c.shared(&s, now)
		}
	} else {
		var change proto.PresenceChange
		if json.Unmarshal(data, &change) == nil {
			list, behind = c.change(&change, now)
		}
	}
	switch {
	case !c.settle.IsZero():
		return
	case behind:
		p.recheck(room, now)
		return
	}
	for i := range list {
		n := &list[i]
		p.tell(room, n.kind, n.count, proto.AppendOccurrence(nil, n.kind, room, now, n.who, n.reason, n.count))
	}
}

// beat handles a heartbeat.
func (p *people) beat(id string, data []byte, now time.Time) {
	h, err := proto.ParseHeartbeat(data)
	if err != nil {
		return
	}
	old, known := p.gateways[id]
	if h.State == proto.GatewayBye {
		delete(p.gateways, id)
		p.gone(id, now)
		return
	}
	p.gateways[id] = gateway{h.Process, h.Number, now}
	switch {
	case !known:
	case old.process != h.Process:
		p.gone(id, now)
	case old.heard.IsZero() || h.Number > old.number+1:
		p.recheckAll(now) // messages of this gateway may have been lost
	}
}

// crowd returns the people of a room of an owned partition.
func (p *people) crowd(room proto.Room, now time.Time) *crowd {
	s := p.partitions[room.Partition()]
	c := s.rooms[room]
	if c == nil {
		c = newCrowd(now)
		c.settle = s.settle
		s.rooms[room] = c
	}
	return c
}

// tell adds an event about people to the stream.
func (p *people) tell(room proto.Room, kind proto.Occurrence, count int, payload []byte) {
	m := nats.NewMsg(room.EventSubject(kind))
	m.Header.Set(proto.HeaderCount, strconv.Itoa(count))
	m.Data = p.e.svc.Keys.SealMessage(room, seal.Event, m.Header, payload)
	if _, err := p.js.PublishMsgAsync(m); err != nil {
		p.recheck(room, time.Now())
		return
	}
	p.e.metrics.told.Inc()
}
