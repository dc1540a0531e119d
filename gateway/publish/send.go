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

// How long the publisher waits before it sends a request again. If a room has no owner, the
// carrier reports that at once. If a request or an answer was lost, nothing arrives at all.
const (
	refusedFirst = 50 * time.Millisecond // wait after the first report that there is no owner; doubled each time
	refusedMax   = 500 * time.Millisecond
	silenceFirst = 500 * time.Millisecond // wait for a first answer; doubled each time
	silenceMax   = 2 * time.Second
)

// send makes an attempt to send the request to the room's owner.
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
			p.retry(r) // the room service cannot be reached, so do not wait for an answer
		}
		return
	}
	wait := min(silenceFirst<<min(r.silent, 8), silenceMax)
	r.silent++
	p.wakeAfter(r, wait)
}

// retry sends the request again after a wait, because no instance accepted it. The wait is
// partly random, so that gateways do not all try at the same moment.
func (p *Publisher) retry(r *request) {
	wait := min(refusedFirst<<min(r.refused, 8), refusedMax)
	r.refused++
	p.wakeAfter(r, wait/2+rand.N(wait))
}

// wakeAfter sets the request's timer to the given wait, but not later than its deadline.
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

// expired runs when a request's timer has fired: it sends the request again, or gives up.
func (p *Publisher) expired(r *request, now time.Time) {
	if now.Before(r.deadline) {
		p.send(r)
		return
	}
	p.finish(r, unavailable())
}

// answer is a reply of the room service to one attempt.
type answer struct {
	token string // token of the attempt
	reply proto.Reply
}

// answered handles one reply. It ignores the reply if the request has been answered already.
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
		// An earlier attempt was refused. Since then the room may have changed, and the owner
		// may have stored a later attempt. So only the refusal of the newest attempt counts.
	}
}
