package presence

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/follow"
	"roomcast/proto"
	"roomcast/proto/seal"
)

// headerOrigin is a header of a signal on room.eph.<p>.<g>. It names the session that sent the
// signal.
const headerOrigin = "Rc-Origin"

// message returns a message on the subject, with v as JSON.
func (p *Presence) message(subject string, v any) *nats.Msg {
	m := nats.NewMsg(subject)
	var err error
	if m.Data, err = json.Marshal(v); err != nil {
		p.cfg.Log.Error("encode presence", "error", err)
	}
	return m
}

// publish sends a message that is not stored. If NATS is not connected, the message is lost.
// After the connection is restored, the trackers ask the other gateways for all their members
// again.
func (p *Presence) publish(room proto.Room, m *nats.Msg) {
	m.Data = p.cfg.Keys.SealMessage(room, seal.Ephemeral, m.Header, m.Data)
	if err := p.nc.PublishMsg(m); err != nil {
		p.stats.Refused.Add(1)
	}
}

// arrived handles a signal, or a change that another gateway has sent.
func (p *Presence) arrived(m *nats.Msg) {
	room, err := proto.RoomOfSubject(m.Subject)
	if err != nil {
		return
	}
	data, err := p.cfg.Keys.OpenMessage(room, seal.Ephemeral, m.Header, m.Data)
	if err != nil {
		p.stats.Bad.Add(1)
		return
	}
	if m.Header.Get(proto.HeaderPresence) == "" {
		p.feeds.Deliver(follow.Delivery{Room: room, JSON: data, Origin: m.Header.Get(headerOrigin)})
		return
	}
	var c Change
	if err := json.Unmarshal(data, &c); err != nil {
		p.stats.Bad.Add(1)
		return
	}
	reply := m.Reply
	if !proto.Answerable(reply) {
		c.Ask = false
	}
	if c.Gateway != p.cfg.ID {
		p.peers.seen(c.Gateway, time.Now())
	}
	if t := p.rooms[room]; t != nil {
		p.apply(room, t, c, reply)
		return
	}
	if _, told := c.Known[p.cfg.ID]; told && c.Ask && c.Gateway != p.cfg.ID {
		// The other gateway believes that there are people here, because it has missed the last
		// leave.
		p.publish(room, p.message(reply, &Share{Gateway: p.cfg.ID, Mark: Mark{Run: p.nextRun(time.Now())}}))
	}
}

// shared handles a list of people that another gateway has sent.
func (p *Presence) shared(token string, m *nats.Msg) {
	room, err := proto.RoomOfToken(token)
	if err != nil || m.Header.Get("Status") != "" { // the status says that no other gateway follows the room
		return
	}
	var s Share
	data, err := p.cfg.Keys.OpenMessage(room, seal.Ephemeral, m.Header, m.Data)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		p.stats.Bad.Add(1)
		return
	}
	if t := p.rooms[room]; t != nil {
		p.apply(room, t, s, "")
	}
}
