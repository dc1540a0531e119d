package client

import (
	"time"

	"roomcast/proto"
)

// pass is one search of the client's state for commands that must be sent now.
type pass struct {
	s       *state
	now     time.Time
	wait    time.Duration // how long until the next search
	patient bool          // false = a command has had no answer for too long
	frames  [][]byte      // to send, in order
}

// due returns the frames to send now. No other function decides which commands the client sends.
func (s *state) due(now time.Time) pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := pass{s: s, now: now, wait: time.Hour, patient: true}
	for _, k := range s.calls.list {
		p.call(k)
	}
	for _, r := range s.order {
		switch {
		case now.Before(r.retryAt):
			p.wait = min(p.wait, r.retryAt.Sub(now))
			continue
		case r.state == absent:
			p.join(r)
		case r.state == lagging && len(s.queue) == 0:
			r.state, r.move = leaving, s.calls.add(proto.VerbLeave, fields{Room: r.name.String()})
		case (r.state == joined || r.state == lagging) && len(r.says) > 0:
			// The session is still in this room, although events are being dropped. So messages
			// need not wait.
			p.say(r)
		}
		if r.move != nil {
			p.call(r.move)
		}
	}
	return p
}

// call adds the frame of k if this connection has not sent it yet.
func (p *pass) call(k *call) {
	if !k.sent {
		k.sent, k.sentAt = true, p.now
		p.send(k.id, k.verb, k.fields)
	}
	left := p.s.patience - p.now.Sub(k.sentAt)
	p.wait = min(p.wait, max(left, 0))
	p.patient = p.patient && left > 0
}

// say adds the frame of the room's first waiting message. A message that may be stored is sent
// again only while the server knows its key, or after the replay has shown that it is not stored.
func (p *pass) say(r *room) {
	k := r.says[0]
	if !k.sent && !k.began.IsZero() && p.s.forgotten(k, p.now) {
		switch {
		case r.state == lagging || r.have < r.head:
			return // wait for the replay, which shows whether the message is stored
		case k.broken:
			p.s.calls.remove(k)
			k.finish(answer{err: ErrUncertain})
			r.says = r.says[1:]
			p.wait = 0 // search again at once, because the next message is due
			return
		}
		k.began = time.Time{}
	}
	if k.began.IsZero() {
		k.began, k.as, k.broken = p.now, p.s.hello.You.ID, false
	}
	p.call(k)
}

// join adds the frame of a join, which asks for the events after the last one that was queued for
// [Client.Next].
func (p *pass) join(r *room) {
	f := fields{Room: r.name.String()}
	f.from(r.since())
	r.state, r.move = joining, p.s.calls.add(proto.VerbJoin, f)
}

func (p *pass) send(id uint64, verb proto.Verb, f fields) {
	frame, err := command(id, verb, f)
	if err == nil {
		p.frames = append(p.frames, frame)
	} else if k := p.s.calls.byID[id]; k != nil { // the frame cannot be encoded: the caller's data is not JSON
		k.finish(answer{err: err})
	}
}
