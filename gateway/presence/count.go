package presence

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// Joins and leaves that one gateway announces in a room each second; it sums up the others
// as one count in the next second.
const (
	presenceRate = 5
	countRate    = 1 // in rooms with more than [proto.MaxListed] members
)

// room counts the members of one room, here and on the other gateways. It exists while the
// room has members here. Each gateway announces its own count with each join and leave, and
// asks for the counts of the others with its first join.
type room struct {
	name   proto.Room
	here   int
	others map[string]int // by gateway; nil while this gateway is alone

	second  int64 // in which told counts
	told    int
	pending bool              // a count is to be announced
	reason  proto.LeaveReason // of the pending count; "" = a join
}

func (r *room) total() int {
	n := r.here
	for _, more := range r.others {
		n += more
	}
	return n
}

func (r *room) rate() int {
	if r.total() > proto.MaxListed {
		return countRate
	}
	return presenceRate
}

func (p *Presence) joined(name proto.Room, who proto.Identity) {
	r := p.rooms[name]
	if r == nil {
		r = &room{name: name}
		p.rooms[name] = r
	}
	r.here++
	p.announce(r, who, "")
}

func (p *Presence) left(name proto.Room, who proto.Identity, reason proto.LeaveReason) {
	r := p.rooms[name]
	if r == nil {
		return
	}
	if r.here--; r.here == 0 {
		delete(p.rooms, name)
		p.publishCount(r, who, reason)
		return
	}
	p.announce(r, who, reason)
}

// announce tells the room of one join or leave, now or summed up later.
func (p *Presence) announce(r *room, who proto.Identity, reason proto.LeaveReason) {
	now := time.Now().Unix()
	if r.second != now {
		r.second, r.told = now, 0
	}
	if r.pending || r.told >= r.rate() {
		p.announceLater(r, reason)
		return
	}
	r.told++
	if r.total() > proto.MaxListed {
		who = proto.Identity{}
	}
	p.publishCount(r, who, reason)
}

func (p *Presence) announceLater(r *room, reason proto.LeaveReason) {
	r.reason = reason
	if !r.pending {
		r.pending = true
		p.dirty = append(p.dirty, r)
	}
}

// announceDirty announces the counts that were put off.
func (p *Presence) announceDirty(now time.Time) {
	n := 0
	for _, r := range p.dirty {
		switch {
		case p.rooms[r.name] != r:
		case r.second == now.Unix() && r.told >= r.rate():
			p.dirty[n] = r
			n++
		default:
			if r.second != now.Unix() {
				r.second, r.told = now.Unix(), 0
			}
			r.told = presenceRate
			r.pending = false
			p.publishCount(r, proto.Identity{}, r.reason)
		}
	}
	clear(p.dirty[n:])
	p.dirty = p.dirty[:n]
}

func (p *Presence) publishCount(r *room, who proto.Identity, reason proto.LeaveReason) {
	m := nats.NewMsg(r.name.EphemeralSubject())
	m.Header.Set(headerHere, p.countHere(r))
	if reason == "" {
		m.Data = proto.AppendJoined(nil, r.name, who, r.total())
		if r.here == 1 && r.others == nil {
			m.Reply = p.home + r.name.Token()
		}
	} else {
		m.Data = proto.AppendLeft(nil, r.name, who, r.total(), reason)
	}
	p.publish(r.name, m)
}

func (p *Presence) countHere(r *room) string { return p.cfg.ID + " " + strconv.Itoa(r.here) }

// changed handles the count of a gateway that announces a join or a leave, and answers with
// the count of this one if that gateway asks for it.
func (p *Presence) changed(name proto.Room, here, reply string) {
	r := p.rooms[name]
	if r == nil {
		return
	}
	p.counted(r, here)
	if id, _, _ := strings.Cut(here, " "); proto.Answerable(reply) && id != p.cfg.ID {
		answer := nats.NewMsg(reply)
		answer.Header.Set(headerHere, p.countHere(r))
		if err := p.nc.PublishMsg(answer); err != nil {
			p.stats.Refused.Add(1)
		}
	}
}

// counted stores how many members another gateway has in the room. It reports whether that
// is a new number.
func (p *Presence) counted(r *room, here string) bool {
	id, count, _ := strings.Cut(here, " ")
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || id == p.cfg.ID || n == r.others[id] {
		return false
	}
	switch {
	case n == 0:
		delete(r.others, id)
	case r.others == nil:
		r.others = map[string]int{id: n}
	default:
		r.others[id] = n
	}
	return true
}

// answeredCount handles the count of a gateway that was asked for it.
func (p *Presence) answeredCount(token, here string) {
	for name, r := range p.rooms {
		if name.Token() == token && p.counted(r, here) {
			p.announceLater(r, "")
		}
	}
}

// gone removes the counts of a dead gateway.
func (p *Presence) gone(id string) {
	for _, r := range p.rooms {
		if r.others[id] == 0 {
			continue
		}
		delete(r.others, id)
		if p.firstOf(r) {
			p.announceLater(r, proto.LeftLost)
		}
	}
}

// firstOf reports whether this gateway is the first by name of those in the room.
func (p *Presence) firstOf(r *room) bool {
	for id := range r.others {
		if id < p.cfg.ID {
			return false
		}
	}
	return true
}

// recount announces this gateway's counts again, because the others may have missed them.
func (p *Presence) recount() {
	for _, r := range p.rooms {
		if r.others != nil {
			p.announceLater(r, "")
		}
	}
}
