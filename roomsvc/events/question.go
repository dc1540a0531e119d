package events

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
)

// unstored is called by nats.go when an event about a room could not be stored. It makes run ask
// the gateways about that room.
func (p *people) unstored(_ jetstream.JetStream, m *nats.Msg, _ error) {
	if _, room, ok := proto.ParseEventSubject(m.Subject); ok {
		p.failed <- room // never blocks: failed has space for all pending events
	}
}

// gone is called when a gateway has stopped. It asks the gateways about all rooms in which that
// gateway had people.
func (p *people) gone(id string, now time.Time) {
	for _, s := range p.partitions {
		if s == nil {
			continue
		}
		for room, c := range s.rooms {
			if here := c.gateways[id]; here != nil && len(here.people) > 0 {
				p.recheck(room, now)
			}
		}
	}
}

// recheck adds a room to the next question to all gateways.
func (p *people) recheck(room proto.Room, now time.Time) {
	s := p.partitions[room.Partition()]
	if s == nil || !s.settle.IsZero() {
		return
	}
	old := p.crowd(room, now)
	if !old.settle.IsZero() && old.settle.After(now) {
		return
	}
	c := newCrowd(now)
	c.occupied = old.occupied || len(old.count) > 0
	c.settle = now.Add(unasked)
	s.rooms[room] = c
	p.ask.Rooms = append(p.ask.Rooms, room.String())
}

// recheckPartition adds an owned partition to the next question to all gateways.
func (p *people) recheckPartition(number int, now time.Time) {
	s := p.partitions[number]
	rooms := make(map[proto.Room]*crowd)
	for room, old := range s.rooms {
		if old.occupied || len(old.count) > 0 {
			rooms[room] = newCrowd(now)
			rooms[room].occupied = true
		}
	}
	s.rooms, s.known, s.settle = rooms, false, now.Add(unasked)
	for _, c := range rooms {
		c.settle = s.settle
	}
	if !slices.Contains(p.ask.Partitions, number) {
		p.ask.Partitions = append(p.ask.Partitions, number)
	}
}

func (p *people) recheckAll(now time.Time) {
	for number, s := range p.partitions {
		if s != nil {
			p.recheckPartition(number, now)
		}
	}
}

// sendQuestion asks all gateways which people are in the partitions and rooms of the next question.
// If it asks about whole partitions, it also starts lookUp.
func (p *people) sendQuestion(ctx context.Context, now time.Time) {
	ask := p.ask
	ask.Rooms = ask.Rooms[:min(len(ask.Rooms), maxAsked)]
	body, err := json.Marshal(ask)
	if err != nil || p.e.nc.Publish(proto.SubjectPeople, body) != nil {
		return // the next tick tries again
	}
	if len(ask.Partitions) > 0 {
		p.tasks.Go(func() { p.lookUp(ctx, now) })
	}
	for _, number := range ask.Partitions {
		if s := p.partitions[number]; s != nil {
			s.settle = now.Add(settleTime)
		}
	}
	for _, name := range ask.Rooms {
		room := proto.MustRoom(name)
		if s := p.partitions[room.Partition()]; s != nil && s.rooms[room] != nil {
			s.rooms[room].settle = now.Add(settleTime)
		}
	}
	// The next tick asks for the remaining rooms.
	p.ask = proto.AskPeople{Rooms: p.ask.Rooms[len(ask.Rooms):]}
	if p.asked = now; len(p.ask.Rooms) > 0 {
		p.asked = time.Time{}
	}
}

// believe applies the result of lookUp: it marks the rooms in which, by the newest events, somebody
// is present. If a partition is asked about later, the result is too old for it, and another one
// follows.
func (p *people) believe(b belief, now time.Time) {
	for room := range b.rooms {
		if s := p.partitions[room.Partition()]; s != nil && !s.settle.IsZero() {
			p.crowd(room, now).occupied = true
		}
	}
	for _, s := range p.partitions {
		if s != nil && !s.settle.After(b.asked.Add(settleTime)) {
			s.known = true
		}
	}
}

// settle ends the question about a room when the gateways have had enough time to answer. It then
// sends one event about the room. It also drops rooms that have been empty for long.
func (p *people) settle(s *owned, now time.Time) {
	if !s.settle.IsZero() {
		if now.Before(s.settle) || !s.known && now.Before(s.settle.Add(believeTime)) {
			return
		}
		s.settle = time.Time{}
		for _, c := range s.rooms {
			c.settle = now
		}
		s.swept = time.Time{}
	}
	if now.Sub(s.swept) < sweepPause {
		return
	}
	s.swept = now
	for room, c := range s.rooms {
		switch {
		case !c.settle.IsZero() && !now.Before(c.settle):
			c.settle = time.Time{}
			if c.occupied || len(c.count) > 0 {
				p.tell(room, proto.RoomPresent, len(c.count), proto.AppendPresent(nil, room, now, len(c.count), c.people()))
			}
			if c.occupied = false; c.behind() {
				p.recheck(room, now)
			}
		case c.settle.IsZero() && !c.emptied.IsZero() && now.Sub(c.emptied) > forgetTime:
			delete(s.rooms, room)
		}
	}
}
