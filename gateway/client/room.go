package client

import (
	"time"

	"roomcast/proto"
)

// room is a room the client follows. Client.mu guards it.
type room struct {
	name  proto.Room
	from  proto.From // how to join while nothing has been handed out
	epoch string
	have  uint64 // the last seq handed out
	began bool   // have counts
	head  uint64 // the newest seq when the room was joined

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
	return proto.From{Since: r.have, HasSince: true, Epoch: r.epoch}
}

// entered takes over the ok of a join.
func (r *room) entered(head uint64, epoch string) {
	r.state, r.join, r.epoch, r.refusals = joined, nil, epoch, 0
	r.head = head
	if r.began {
		return
	}
	switch {
	case r.from.HasSince:
		r.have, r.began = r.from.Since, true
	case r.from.None():
		r.have, r.began = head, true
	}
	// After last and after, the first event says where the replay begins.
}

// passed takes over a gap: the events up to its end, or all numbers, no longer count.
func (r *room) passed(g *proto.Gap) {
	if g.Reason == proto.GapReset || g.To == 0 {
		r.have, r.began = 0, false
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
