package client

import (
	"time"

	"roomcast/proto"
)

// pass is one scan of the client's state for commands that must be sent now.
type pass struct {
	s       *state
	now     time.Time
	wait    time.Duration // until the next look
	patient bool          // false: a command has had no answer for too long
	frames  [][]byte      // to send, in order
}

// due returns the frames to send now. Only due decides which commands the client sends.
func (s *state) due(now time.Time) pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := pass{s: s, now: now, wait: time.Hour, patient: true}
	for _, k := range s.calls.list {
		p.call(k)
	}
	for _, r := range s.order {
		switch {
		case now.Before(r.notYet):
			p.wait = min(p.wait, r.notYet.Sub(now))
			continue
		case r.state == absent:
			p.join(r)
		case r.state == lagging && len(s.queue) == 0:
			r.state, r.move = leaving, s.calls.add(proto.VerbLeave, fields{Room: r.name.String()})
		case (r.state == joined || r.state == lagging) && len(r.says) > 0:
			// The session is still in a lagging room, so its messages need not wait.
			p.say(r)
		}
		if r.move != nil {
			p.call(r.move)
		}
	}
	return p
}

// call sends k unless this connection has sent it.
func (p *pass) call(k *call) {
	if !k.sent {
		k.sent, k.sentAt = true, p.now
		p.send(k.id, k.verb, k.fields)
	}
	left := p.s.patience - p.now.Sub(k.sentAt)
	p.wait = min(p.wait, max(left, 0))
	p.patient = p.patient && left > 0
}

// say sends the first message of a room's line, unless it may be stored and its key forgotten.
func (p *pass) say(r *room) {
	k := r.says[0]
	if !k.sent && !k.began.IsZero() && p.s.forgotten(k, p.now) {
		switch {
		case r.state == lagging || r.have < r.head:
			return // the replay may have it
		case k.broken:
			p.s.calls.remove(k)
			k.finish(answer{err: ErrUncertain})
			r.says = r.says[1:]
			p.wait = 0 // the next message is due
			return
		}
		k.began = time.Time{}
	}
	if k.began.IsZero() {
		k.began, k.as, k.broken = p.now, p.s.hello.You.ID, false
	}
	p.call(k)
}

// join joins a room, from the last event that Next has returned.
func (p *pass) join(r *room) {
	f := fields{Room: r.name.String()}
	f.from(r.since())
	r.state, r.move = joining, p.s.calls.add(proto.VerbJoin, f)
}

func (p *pass) send(id uint64, verb proto.Verb, f fields) {
	frame, err := command(id, verb, f)
	if err == nil {
		p.frames = append(p.frames, frame)
	} else if k := p.s.calls.byID[id]; k != nil { // its data is not JSON
		k.finish(answer{err: err})
	}
}
