package client

import (
	"slices"
	"time"

	"github.com/gobwas/ws"

	"roomcast/proto"
)

// attach begins a session: everything is to be sent again on l.
func (c *Client) attach(l *link, h helloFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
	c.stats.Links++
	c.hello = Hello(h)
	hello := c.hello
	c.notify(Notice{Hello: &hello})
	signal(c.wake)
}

// detach ends a session. What waits for an answer will be sent again on the next link, but
// for signals, and for leaves, since a new session is in no room.
func (c *Client) detach() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = nil
	for _, r := range c.order {
		if r.join != nil {
			delete(c.byID, r.join.id)
		}
		r.detached()
	}
	c.calls = slices.DeleteFunc(c.calls, func(k *call) bool {
		switch {
		case k.verb == proto.VerbLeave:
			k.finish(answer{ok: &okFrame{}})
		case k.verb == proto.VerbSignal && k.sent:
			k.finish(answer{err: ErrLost})
		}
		k.sent = false
		if k.finished {
			delete(c.byID, k.id)
		}
		return k.finished
	})
}

// pump writes to l's buffer what the state of rooms and calls says is due: it is the only
// place that sends commands. It returns when to look again, and false when the server has
// left a command unanswered for too long.
func (c *Client) pump(l *link, now time.Time) (wait time.Duration, patient bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return time.Hour, true
	}
	p := pumping{c: c, l: l, now: now, wait: time.Hour, patient: true}
	for _, k := range c.calls {
		p.call(k)
	}
	for _, r := range c.order {
		switch {
		case now.Before(r.notYet):
			p.wait = min(p.wait, r.notYet.Sub(now))
			continue
		case r.state == lagging && len(c.queue) == 0, r.state == absent:
			p.join(r)
		case (r.state == joined || r.state == lagging) && len(r.says) > 0:
			// Lagging, the session is still in the room, and who says something
			// need not be who takes the events.
			p.call(r.says[0])
		}
		if r.join != nil {
			p.call(r.join)
		}
	}
	return p.wait, p.patient
}

// pumping is one pass of pump.
type pumping struct {
	c       *Client
	l       *link
	now     time.Time
	wait    time.Duration
	patient bool
}

// call sends k unless it is under way.
func (p *pumping) call(k *call) {
	if !k.sent {
		k.sent, k.sentAt = true, p.now
		p.send(k.id, k.verb, k.fields)
	}
	left := p.c.cfg.Patience - p.now.Sub(k.sentAt)
	p.wait = min(p.wait, max(left, 0))
	p.patient = p.patient && left > 0
}

// join asks for a room, from where the last join got to.
func (p *pumping) join(r *room) {
	if r.state == lagging {
		// The server is still in the room; only leaving makes it replay.
		p.send(0, proto.VerbLeave, fields{Room: r.name.String()})
	}
	f := fields{Room: r.name.String()}
	f.from(r.since())
	r.state, r.join = joining, p.c.newCall(proto.VerbJoin, f)
}

func (p *pumping) send(id uint64, verb proto.Verb, f fields) {
	b, err := command(id, verb, f)
	if err != nil { // data that is not JSON
		if k := p.c.byID[id]; k != nil {
			k.finish(answer{err: err})
		}
		return
	}
	p.c.trace(p.c.cfg.Trace.Sent, p.l.number, b)
	p.l.frame(ws.NewTextFrame(b))
}

// receive takes one frame from the server. An error ends the connection.
func (c *Client) receive(p []byte) error {
	in, err := parseFrame(p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer signal(c.wake)
	if in.ID != nil {
		if k := c.byID[*in.ID]; k != nil && (in.OK != nil || in.Error != nil) {
			c.answered(k, in)
		}
		return nil
	}
	r := c.following(in.Room)
	if r == nil {
		return nil
	}
	switch {
	case in.Seq > 0:
		e, err := proto.ParseEvent(p)
		if err != nil {
			return err
		}
		c.event(r, &e)
	case in.Gap != nil:
		if g := in.Gap.gap(r.name); c.notify(Notice{Room: r.name, Gap: g}) {
			r.passed(g)
		} else {
			c.lag(r)
		}
	case in.Sig != nil:
		c.ephemeral(Notice{Room: r.name, Signal: &Signal{Type: in.Sig.Type, From: in.Sig.From, Data: in.Sig.Data}})
	case in.Join != nil:
		c.ephemeral(Notice{Room: r.name, Presence: in.Join.presence(false)})
	case in.Left != nil:
		c.ephemeral(Notice{Room: r.name, Presence: in.Left.presence(true)})
	}
	return nil
}

// following returns the room of that name if its events count now.
func (c *Client) following(name string) *room {
	parsed, err := proto.ParseRoom(name)
	if err != nil {
		return nil
	}
	if r := c.rooms[parsed]; r != nil && r.state == joined {
		return r
	}
	return nil
}

func (c *Client) event(r *room, e *proto.Event) {
	switch r.judge(e.Seq) {
	case repeat:
		c.stats.Repeats++
	case hole:
		c.stats.Holes++
		r.state = lagging
	case next:
		if !c.notify(Notice{Room: r.name, Event: e}) {
			c.lag(r)
			return
		}
		r.handed(e)
		// An earlier closing, in a replay, has been undone: the join was not refused.
		if e.Kind == proto.Closed && e.Seq > r.head {
			c.expel(r, proto.Refuse(proto.RoomClosed, "%s", e.Why))
		}
	}
}

// expel forgets a room that the server no longer has this session in.
func (c *Client) expel(r *room, why *proto.Refusal) {
	c.notify(Notice{Room: r.name, Refused: why})
	c.forget(r, why)
}

func (c *Client) lag(r *room) {
	c.stats.Lags++
	r.state = lagging
}

func (c *Client) ephemeral(n Notice) {
	if !c.notify(n) {
		c.stats.Dropped++
	}
}

// answered takes the answer to a command.
func (c *Client) answered(k *call, in frame) {
	now := time.Now()
	switch k.verb {
	case proto.VerbSay:
		for _, r := range c.order {
			if len(r.says) > 0 && r.says[0] == k {
				r.said(k, in, now)
				return
			}
		}
	case proto.VerbJoin:
		for _, r := range c.order {
			if r.join == k {
				delete(c.byID, k.id)
				c.entered(r, in, now)
				return
			}
		}
	default:
		if in.Error != nil {
			k.finish(answer{err: in.Error.refusal()})
		} else {
			k.finish(answer{ok: in.OK})
		}
		delete(c.byID, k.id)
		c.calls = slices.DeleteFunc(c.calls, k.is)
	}
}

// entered takes the answer to a join.
func (c *Client) entered(r *room, in frame, now time.Time) {
	if in.Error == nil {
		r.entered(in.OK)
		if r.asked != nil {
			r.asked.finish(answer{ok: in.OK})
			r.asked = nil
		}
		return
	}
	refusal := in.Error.refusal()
	r.join = nil
	if forNow(refusal) {
		r.state = absent
		r.later(refusal, now)
		return
	}
	if r.asked == nil {
		c.expel(r, refusal)
	} else {
		c.forget(r, refusal)
	}
}
