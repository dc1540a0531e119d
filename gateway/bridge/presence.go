package bridge

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// Headers of what gateways send each other on room.eph.<p>.<g>.
const (
	headerOrigin = "Rc-Origin" // of a signal: the session that sent it
	headerHere   = "Rc-Here"   // of a join or leave: the gateway's id, and how many members it has in the room
)

// A room may tell so many joins and leaves a second from one gateway, one that is told
// counts only a single one; what comes beyond is told as one count in the next second.
const (
	presenceRate = 5
	countRate    = 1
)

// presence is what a feed knows about who is in a room: how many here, and how many the
// other gateways have told of. Each gateway tells its own count with each join and leave;
// one that is new to a room asks for the counts of the others by a reply subject on its
// first join. When a gateway has died (see roster), the first by name of those left in
// a room tells the room that its members are lost.
type presence struct {
	here   int
	others map[string]int // by gateway; nil while this one is alone

	second  int64 // in which told counts
	told    int
	pending bool              // a count is to be told
	reason  proto.LeaveReason // of the pending count; "" = a join
}

func (p *presence) total() int {
	n := p.here
	for _, more := range p.others {
		n += more
	}
	return n
}

// rate returns how many joins and leaves may be told a second.
func (p *presence) rate() int {
	if p.total() > proto.MaxListed {
		return countRate
	}
	return presenceRate
}

func (f *feed) joined(name proto.Room, who proto.Identity) {
	r := f.rooms[name.Token()]
	if r == nil {
		return
	}
	r.here++
	f.tellPresence(r, who, "")
}

func (f *feed) left(name proto.Room, who proto.Identity, reason proto.LeaveReason) {
	r := f.rooms[name.Token()]
	if r == nil || r.here == 0 {
		return
	}
	r.here--
	f.tellPresence(r, who, reason)
}

// tellPresence tells the room of one join or leave, or has it told later.
func (f *feed) tellPresence(r *room, who proto.Identity, reason proto.LeaveReason) {
	now := time.Now().Unix()
	if r.second != now {
		r.second, r.told = now, 0
	}
	if r.pending || r.told >= r.rate() {
		f.tellLater(r, reason)
		return
	}
	r.told++
	if r.total() > proto.MaxListed {
		who = proto.Identity{}
	}
	f.publishPresence(r, who, reason)
}

func (f *feed) tellLater(r *room, reason proto.LeaveReason) {
	r.reason = reason
	if !r.pending {
		r.pending = true
		f.restless = append(f.restless, r)
	}
}

// tellRestless tells the counts that were put off, each in another second than what was
// told before.
func (f *feed) tellRestless(now time.Time) {
	n := 0
	for _, r := range f.restless {
		switch {
		case f.rooms[r.name.Token()] != r:
		case r.second == now.Unix() && r.told >= r.rate():
			f.restless[n] = r
			n++
		default:
			if r.second != now.Unix() {
				r.second, r.told = now.Unix(), 0
			}
			r.told = presenceRate
			r.pending = false
			f.publishPresence(r, proto.Identity{}, r.reason)
		}
	}
	clear(f.restless[n:])
	f.restless = f.restless[:n]
}

func (f *feed) publishPresence(r *room, who proto.Identity, reason proto.LeaveReason) {
	m := nats.NewMsg(r.name.EphemeralSubject())
	m.Header.Set(headerHere, f.countHere(r))
	if reason == "" {
		m.Data = proto.AppendJoined(nil, r.name, who, r.total())
		if r.here == 1 && r.others == nil {
			m.Reply = f.home + r.name.Token()
		}
	} else {
		m.Data = proto.AppendLeft(nil, r.name, who, r.total(), reason)
	}
	f.publish(r.name, m)
}

func (f *feed) countHere(r *room) string { return f.b.cfg.ID + " " + strconv.Itoa(r.here) }

// publish sends what is not stored. While NATS is away it is lost, as it may be.
func (f *feed) publish(room proto.Room, m *nats.Msg) {
	m.Data = f.b.cfg.Keys.Seal(room, seal.Ephemeral, seal.Headers(m.Header), m.Data)
	if f.b.cfg.Keys != nil {
		m.Header.Set(proto.HeaderEnc, seal.Mark)
	}
	if err := f.nc.PublishMsg(m); err != nil {
		f.b.stat.refused.Add(1)
	}
}

// openEphemeral returns the plain payload of what is not stored.
func (c *Config) openEphemeral(room proto.Room, m *nats.Msg) ([]byte, error) {
	if m.Header.Get(proto.HeaderEnc) == "" {
		return m.Data, c.Keys.CheckPlain()
	}
	return c.Keys.Open(room, seal.Ephemeral, seal.Headers(m.Header), m.Data)
}

// maxSignals is how many signals may wait for a feed; what comes beyond is let go.
const maxSignals = 4096

func (f *feed) signal(room proto.Room, json []byte, origin string) {
	f.loud.Add(-1)
	m := nats.NewMsg(room.EphemeralSubject())
	m.Data = json
	if origin != "" {
		m.Header.Set(headerOrigin, origin)
	}
	f.publish(room, m)
}

// ephemeral hands on a signal, a join or a leave, our own ones too.
func (f *feed) ephemeral(r *room, m *nats.Msg) {
	data, err := f.b.cfg.openEphemeral(r.name, m)
	if err != nil {
		f.b.stat.bad.Add(1)
		return
	}
	if here := m.Header.Get(headerHere); here != "" {
		f.counted(r, here)
		if id, _, _ := strings.Cut(here, " "); proto.Answerable(m.Reply) && id != f.b.cfg.ID && r.here > 0 {
			answer := nats.NewMsg(m.Reply)
			answer.Header.Set(headerHere, f.countHere(r))
			if err := f.nc.PublishMsg(answer); err != nil {
				f.b.stat.refused.Add(1)
			}
		}
	}
	f.hand(r, Delivery{Room: r.name, JSON: data, Origin: m.Header.Get(headerOrigin)})
}

// counted takes note of how many members another gateway has in the room, and reports
// whether that is news.
func (f *feed) counted(r *room, here string) (news bool) {
	id, count, _ := strings.Cut(here, " ")
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || id == f.b.cfg.ID || n == r.others[id] {
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

// answered takes in the count of a gateway that was asked for it.
func (f *feed) answered(r *room, here string) {
	if f.counted(r, here) && r.here > 0 {
		f.tellLater(r, "")
	}
}

// gone takes note of a dead gateway.
func (f *feed) gone(id string) {
	for _, r := range f.list {
		if r.others[id] == 0 {
			continue
		}
		delete(r.others, id)
		if r.here > 0 && f.firstOf(r) {
			f.tellLater(r, proto.LeftLost)
		}
	}
}

// firstOf reports whether this gateway is the first by name of those in the room.
func (f *feed) firstOf(r *room) bool {
	for id := range r.others {
		if id < f.b.cfg.ID {
			return false
		}
	}
	return true
}

// recount tells our counts again, after a time in which nobody heard of us.
func (f *feed) recount() {
	for _, r := range f.list {
		if r.here > 0 && r.others != nil {
			f.tellLater(r, "")
		}
	}
}
