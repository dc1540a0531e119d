package client

import (
	"slices"
	"time"

	"roomcast/proto"
)

// room is a room that the client follows. The state's mutex guards it.
type room struct {
	name  proto.Room
	from  proto.From // of the join, until have counts
	have  uint64     // seq of the last event that Next has returned
	at    time.Time  // of that event; zero if the client has not seen it
	epoch string     // of have; "" = not known
	began bool       // have counts
	head  uint64     // seq up to which a reopening has undone each close

	state roomState
	move  *call   // the join or leave that has been sent and not answered; nil = none
	asked *call   // answers the caller of Join; nil once it has
	says  []*call // in order; only the first one is sent, see Client.Say

	refusals int       // temporary ones in a row
	notYet   time.Time // when the refused command may be sent again
}

type roomState int

const (
	absent  roomState = iota // a join is due
	joining                  // events before the ok belong to an earlier join
	joined
	lagging // events are dropped until the queue is empty; then a leave is due
	leaving // only a join after a leave begins a replay
)

// verdict says what to do with an event.
type verdict int

const (
	next verdict = iota // return it from Next
	repeat
	hole // an event before it is missing
)

// judge compares an event's seq with the last one that Next has returned.
func (r *room) judge(seq uint64) verdict {
	switch {
	case !r.began || seq == r.have+1:
		return next
	case seq <= r.have:
		return repeat
	}
	return hole
}

// since returns the place from which the next join reads.
func (r *room) since() proto.From {
	if !r.began {
		return r.from
	}
	return proto.From{Since: r.have, HasSince: true, Epoch: r.epoch, At: r.at}
}

// entered takes over the ok of a join.
func (r *room) entered(ok *proto.Joined) {
	r.state, r.refusals = joined, 0
	r.head = ok.Seq
	if !r.began {
		switch {
		case r.from.HasSince:
			r.have, r.at, r.epoch, r.began = r.from.Since, r.from.At, r.from.Epoch, true
		case r.from.None():
			r.have, r.at, r.epoch, r.began = ok.Seq, ok.At, ok.Epoch, true
		case r.from.Last > 0:
			// The replay begins at its first event. If the connection breaks before that comes,
			// a second last could leave out events of the meantime.
			r.from = proto.From{Since: ok.Seq - min(ok.Seq, uint64(r.from.Last)), HasSince: true, Epoch: ok.Epoch}
		}
	}
	if r.have == 0 || r.epoch == "" {
		r.epoch = ok.Epoch
	}
	// Otherwise a reset brings another epoch. If the connection breaks before it comes, the
	// next join must name the old epoch again.
}

// returned notes an event that Next returns.
func (r *room) returned(e *proto.Event) {
	r.have, r.at, r.began = e.Seq, e.At, true
	if e.Epoch != "" {
		r.epoch = e.Epoch
	}
}

// passed notes a gap. Its events will not come; after a reset all numbers begin again.
func (r *room) passed(g *proto.Gap) {
	r.at = time.Time{}
	if g.Reason == proto.GapReset || g.To == 0 {
		r.have, r.began, r.epoch, r.head = 0, false, g.Epoch, g.Seq
		r.from = proto.From{HasSince: true}
		return
	}
	r.have, r.began = g.To, true
}

// detached prepares the room for the next connection.
func (r *room) detached() {
	r.state, r.move, r.refusals, r.notYet = absent, nil, 0, time.Time{}
	for _, say := range r.says {
		say.sent = false
	}
}

// later delays the room's commands after a temporary refusal.
func (r *room) later(refusal *proto.Refusal, now time.Time) {
	r.notYet = now.Add(refusal.Retry + backoff(r.refusals, 20*time.Millisecond, time.Second))
	r.refusals++
}

// fail answers all callers that wait for the room.
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

// said takes over the answer to the first of the room's messages. After a temporary
// refusal it stays first and is sent again later, or once the room has been joined again.
func (r *room) said(k *call, in *frame, now time.Time) {
	switch {
	case in.Error == nil:
		r.refusals = 0
	case temporary(in.Error):
		k.sent = false
		r.later(in.Error, now)
		return
	case in.Error.Code == proto.NotJoined:
		k.sent = false
		r.state = absent
		return
	}
	k.finish(in.answer())
	r.says = slices.DeleteFunc(r.says, k.is)
}
