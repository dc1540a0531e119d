package client

import (
	"time"

	"roomcast/proto"
)

// room is a room the client follows. Client.mu guards it.
type room struct {
	name  proto.Room
	from  proto.From // how to join while nothing has been handed out
	have  uint64     // the last seq handed out
	at    time.Time  // of the event numbered have; zero if the client has not seen it
	epoch string     // that have is counted in; "" = not known
	began bool       // have counts
	head  uint64     // a closing up to this seq is of the past

	state roomState
	join  *call   // under way while joining
	asked *call   // Join's caller, until the first join is answered
	says  []*call // in order; only the first is under way, see Say

	refusals int       // for now, one after the other
	notYet   time.Time // when the refused command may be sent again
}

type roomState int

const (
	absent  roomState = iota // to be joined
	joining                  // asked; events until the ok belong to an earlier join
	joined
	lagging // events are dropped until Next has taken what is kept; then the room is joined again
)

// verdict is what becomes of an event.
type verdict int

const (
	next verdict = iota // hand it out
	repeat
	hole // an event before it is missing
)

// judge holds an event's seq against what has been handed out.
func (r *room) judge(seq uint64) verdict {
	switch {
	case !r.began || seq == r.have+1:
		return next
	case seq <= r.have:
		return repeat
	}
	return hole
}

// since returns from where the room is to be joined now.
func (r *room) since() proto.From {
	if !r.began {
		return r.from
	}
	return proto.From{Since: r.have, HasSince: true, Epoch: r.epoch, At: r.at}
}

// entered takes over the ok of a join.
func (r *room) entered(ok *okFrame) {
	r.state, r.join, r.refusals = joined, nil, 0
	r.head = ok.Seq
	if !r.began {
		switch {
		case r.from.HasSince:
			r.have, r.at, r.epoch, r.began = r.from.Since, r.from.At, r.from.Epoch, true
		case r.from.None():
			r.have, r.at, r.epoch, r.began = ok.Seq, ok.At, ok.Epoch, true
		}
		// After last and after, the first event says where the replay begins.
	}
	if r.have == 0 || r.epoch == "" {
		r.epoch = ok.Epoch
	}
	// Otherwise another epoch comes with a reset. If the connection breaks before that, the
	// next join must ask for it again.
}

// handed takes over an event that is handed out.
func (r *room) handed(e *proto.Event) {
	r.have, r.at, r.began = e.Seq, e.At, true
	if e.Epoch != "" {
		r.epoch = e.Epoch
	}
}

// passed takes over a gap: the events up to its end, or all numbers, no longer count.
func (r *room) passed(g *proto.Gap) {
	r.at = time.Time{}
	if g.Reason == proto.GapReset || g.To == 0 {
		r.have, r.began, r.epoch, r.head = 0, false, g.Epoch, g.Seq
		r.from = proto.From{HasSince: true}
		return
	}
	r.have, r.began = g.To, true
}

// detached returns the room to where a new connection has to begin.
func (r *room) detached() {
	r.state, r.join, r.refusals, r.notYet = absent, nil, 0, time.Time{}
	for _, say := range r.says {
		say.sent = false
	}
}

// later notes that the server has refused the room's command for now.
func (r *room) later(refusal *proto.Refusal, now time.Time) {
	r.notYet = now.Add(refusal.Retry + backoff(r.refusals, 20*time.Millisecond, time.Second))
	r.refusals++
}

// fail answers everybody who waits for the room.
func (r *room) fail(err error) {
	if r.asked != nil {
		r.asked.finish(answer{err: err})
		r.asked = nil
	}
	for _, say := range r.says {
		say.finish(answer{err: err})
	}
	r.says = nil
}
