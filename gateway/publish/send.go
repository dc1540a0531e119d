package publish

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"roomcast/proto"
)

// The waits before a request is sent again. The carrier reports at once that a room has no owner.
// After the loss of a request or an answer there is only silence.
const (
	refusedFirst = 50 * time.Millisecond // doubled each time
	refusedMax   = 500 * time.Millisecond
	silenceFirst = 500 * time.Millisecond // doubled each time
	silenceMax   = 2 * time.Second
)

// send sends the request, for the first time or again.
func (p *Publisher) send(r *request) {
	if r.token == "" {
		p.tokens++
		r.token = strconv.FormatUint(p.tokens, 36)
		p.open[r.token] = r
	} else {
		p.stats.Resends.Add(1)
	}
	r.tries++
	if err := p.carrier.Send(r.token+"-"+strconv.FormatUint(r.tries, 36), r.room, &r.body); err != nil {
		if refusal, final := errors.AsType[*proto.Refusal](err); final {
			p.cfg.Log.Warn("send message", "room", r.room.String(), "error", err)
			p.finish(r, proto.Reply{Refusal: refusal})
		} else {
			p.retry(r) // the room service cannot be reached, so no answer will come
		}
		return
	}
	wait := min(silenceFirst<<min(r.silent, 8), silenceMax)
	r.silent++
	p.wakeAfter(r, wait)
}

// retry sends the request again later, because no instance could accept it. The jitter
// keeps gateways from trying in step.
func (p *Publisher) retry(r *request) {
	wait := min(refusedFirst<<min(r.refused, 8), refusedMax)
	r.refused++
	p.wakeAfter(r, wait/2+rand.N(wait))
}

// wakeAfter sets the request's timer, not beyond its deadline.
func (p *Publisher) wakeAfter(r *request, wait time.Duration) {
	r.due = time.Now().Add(wait)
	if r.due.After(r.deadline) {
		r.due = r.deadline
	}
	if r.position < 0 {
		heap.Push(&p.timers, r)
	} else {
		heap.Fix(&p.timers, r.position)
	}
}

// expired handles a request whose timer has fired.
func (p *Publisher) expired(r *request, now time.Time) {
	if now.Before(r.deadline) {
		p.send(r)
		return
	}
	p.finish(r, unavailable())
}

// answer is one reply of the room service.
type answer struct {
	token string // of the try
	reply proto.Reply
}

// answered handles one reply. Its request may have ended.
func (p *Publisher) answered(a *answer) {
	token, try, _ := strings.Cut(a.token, "-")
	r := p.open[token]
	if r == nil {
		return
	}
	switch reply := a.reply; {
	case reply.Refusal == nil:
		p.finish(r, reply)
	case reply.Refusal.Code == proto.Unavailable:
		p.retry(r)
	case try == strconv.FormatUint(r.tries, 36):
		p.finish(r, reply)
	default:
		// An older try was refused. Meanwhile the room may have changed, and the owner may have
		// stored a later try. So only the refusal of the last try counts.
	}
}
