package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"roomcast/proto"
)

// room is a room that the client follows. The state's mutex guards it.
type room struct {
	name  proto.Room
	from  proto.From // where the next join begins; unused after began is true
	have  uint64     // seq of the last event that was queued for Next; valid if began is true
	at    time.Time  // time of that event; zero = not known
	epoch string     // epoch of that event; "" = not known
	began bool       // Next has received an event or a gap
	head  uint64     // a close whose seq is not above head was undone by a reopening

	state roomState
	move  *call   // the join or leave that has no answer yet; nil = there is none
	asked *call   // makes the caller of Join wait; nil after the answer
	says  []*call // messages without an ack, in order; only the first may be sent; see [Client.Say]

	refusals int       // number of temporary refusals in a row
	retryAt  time.Time // when to send the refused command again
}

type roomState int

const (
	absent  roomState = iota // the client must send a join
	joining                  // the join has no answer yet; events that arrive before the answer belong to an earlier join
	joined
	lagging // the queue was full: the client drops events until the queue is empty, and then sends a leave
	leaving // the leave has no answer yet; the next join then replays the dropped events
)

// verdict says what to do with an event.
type verdict int

const (
	next   verdict = iota // Next must return the event
	repeat                // the event is a repeat; drop it
	hole                  // an earlier event is missing: join again
)

// judge compares an event's seq with have, the seq of the last event that was queued for
// [Client.Next].
func (r *room) judge(seq uint64) verdict {
	switch {
	case !r.began || seq == r.have+1:
		return next
	case seq <= r.have:
		return repeat
	}
	return hole
}

// since returns the place in the log at which the next join must begin.
func (r *room) since() proto.From {
	if !r.began {
		return r.from
	}
	return proto.From{Since: r.have, HasSince: true, Epoch: r.epoch, At: r.at}
}

// entered handles the successful answer to a join.
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
			// The join asked for the last N events. If the connection breaks before the first of
			// them arrives, the same request would give other events. So the next join names the
			// seq at which they begin.
			r.from = proto.From{Since: ok.Seq - min(ok.Seq, uint64(r.from.Last)), HasSince: true, Epoch: ok.Epoch}
		}
	}
	if r.have == 0 || r.epoch == "" {
		r.epoch = ok.Epoch
	}
	// Otherwise keep the old epoch. If the answer has another epoch, a reset follows. The
	// connection may break before the reset arrives; the next join must then name the old epoch
	// again, to get the reset.
}

// returned moves the room's position to an event that Next will return.
func (r *room) returned(e *proto.Event) {
	r.have, r.at, r.began = e.Seq, e.At, true
	if e.Epoch != "" {
		r.epoch = e.Epoch
	}
}

// foundInReplay compares an event with the first waiting message. If they are equal, the message is
// stored although the answer was lost. Then foundInReplay answers the caller of Say.
func (r *room) foundInReplay(e *proto.Event) {
	if len(r.says) == 0 || e.Key == "" || e.Key != r.says[0].fields.Key || e.From.ID != r.says[0].as {
		return
	}
	ok, err := json.Marshal(Ack{Seq: e.Seq, At: e.At})
	r.says[0].finish(answer{ok: ok, err: err})
	r.says = r.says[1:]
}

// skip handles a gap: its events will not come. After a reset the room's events begin again with
// the oldest one.
func (r *room) skip(g *proto.Gap) {
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
	r.state, r.move, r.refusals, r.retryAt = absent, nil, 0, time.Time{}
	for _, say := range r.says {
		say.sent = false
	}
}

// later makes the room's commands wait after a temporary refusal.
func (r *room) later(refusal *proto.Refusal, now time.Time) {
	r.retryAt = now.Add(refusal.Retry + backoff(r.refusals, 20*time.Millisecond, time.Second))
	r.refusals++
}

// fail answers all callers that wait for the room with err. If err is a refusal, it does not say
// whether a message that was sent before is stored.
func (r *room) fail(err error) {
	if r.asked != nil {
		r.asked.finish(answer{err: err})
		r.asked = nil
	}
	unanswered := err
	if _, refused := err.(*proto.Refusal); refused {
		unanswered = fmt.Errorf("%w: %v", ErrUncertain, err)
	}
	for _, say := range r.says {
		if say.began.IsZero() {
			say.finish(answer{err: err})
		} else {
			say.finish(answer{err: unanswered})
		}
	}
	r.says = nil
}

// said handles the answer to the first of the room's messages. After a temporary refusal the
// message stays the first, and the client sends it again later. If the refusal says that the
// session is not in the room, the client first joins the room again.
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
	a := in.answer()
	if in.Error != nil && in.Error.Code == proto.Forbidden && k.sentAt.After(k.began) {
		// The server checks the right before it looks for the key. So the refusal says nothing about
		// the message that was sent before.
		a.err = fmt.Errorf("%w: %v", ErrUncertain, in.Error)
	}
	k.finish(a)
	r.says = slices.DeleteFunc(r.says, k.is)
}
