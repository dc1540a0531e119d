package client

import (
	"encoding/json"
	"slices"
	"time"

	"roomcast/proto"
)

// room is a room that the client follows. The state's mutex guards it.
type room struct {
	name  proto.Room
	from  proto.From // of the next join, while began is false
	have  uint64     // seq of the last event that Next has returned, if began is true
	at    time.Time  // of that event; zero = not known
	epoch string     // of that event; "" = not known
	began bool       // have is valid
	head  uint64     // each close up to this seq has been undone

	state roomState
	move  *call   // the join or leave without an answer; nil = none
	asked *call   // for the caller of Join; nil after its answer
	says  []*call // in order; the client sends only the first one, see Client.Say

	refusals int       // temporary refusals in a row
	notYet   time.Time // when to send the refused command again
}

type roomState int

const (
	absent  roomState = iota // a join is due
	joining                  // the join has no answer; events before it belong to an earlier join
	joined
	lagging // the client drops events until its queue is empty; then a leave is due
	leaving // the leave has no answer; the next join replays the dropped events
)

// verdict says what to do with an event.
type verdict int

const (
	next   verdict = iota // return it from Next
	repeat                // drop it
	hole                  // an event before it is missing: join again
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

// since returns the place from which the next join replays.
func (r *room) since() proto.From {
	if !r.began {
		return r.from
	}
	return proto.From{Since: r.have, HasSince: true, Epoch: r.epoch, At: r.at}
}

// entered handles the ok of a join.
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
			// If the connection breaks before the first event arrives, another join with last
			// could leave out events. So the next join names their beginning.
			r.from = proto.From{Since: ok.Seq - min(ok.Seq, uint64(r.from.Last)), HasSince: true, Epoch: ok.Epoch}
		}
	}
	if r.have == 0 || r.epoch == "" {
		r.epoch = ok.Epoch
	}
	// Otherwise keep the old epoch: if ok has another one, a reset follows. If the connection
	// breaks before the reset arrives, the next join must name the old epoch again.
}

// returned records an event that Next will return.
func (r *room) returned(e *proto.Event) {
	r.have, r.at, r.began = e.Seq, e.At, true
	if e.Epoch != "" {
		r.epoch = e.Epoch
	}
}

// shown answers the first of the room's messages with its own event, whose answer may be lost.
func (r *room) shown(e *proto.Event) {
	if len(r.says) == 0 || e.Key == "" || e.Key != r.says[0].fields.Key || e.From.ID != r.says[0].as {
		return
	}
	ok, err := json.Marshal(Ack{Seq: e.Seq, At: e.At})
	r.says[0].finish(answer{ok: ok, err: err})
	r.says = r.says[1:]
}

// passed records a gap. Its events will not come. After a reset the events begin again.
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

// said handles the answer to the first of the room's messages. After a temporary refusal the
// message stays the first, and the client sends it again later. If the session is not in the
// room, the client joins the room before that.
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
