package publish

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// How long to wait before a request is sent again. NATS reports at once that a room has no
// owner ("no responders"). A lost request or answer shows only by silence.
const (
	refusedFirst = 50 * time.Millisecond // doubled each time
	refusedMax   = 500 * time.Millisecond
	silenceFirst = 500 * time.Millisecond // doubled each time
	silenceMax   = 2 * time.Second
)

// send sends the request, for the first time or again.
func (p *Publisher) send(r *request) {
	if r.msg == nil {
		p.tokens++
		r.token = strconv.FormatUint(p.tokens, 36)
		r.msg = r.encode(p.cfg.Keys)
		p.open[r.token] = r
	} else {
		p.stats.Resends.Add(1)
	}
	r.tries++
	r.msg.Reply = p.inbox + r.token + "-" + strconv.FormatUint(r.tries, 36)
	if err := p.nc.PublishMsg(r.msg); err != nil {
		if refusal := p.permanent(r, err); refusal != nil {
			p.finish(r, proto.Reply{Refusal: refusal})
		} else {
			p.retry(r) // not connected: no answer will come
		}
		return
	}
	wait := min(silenceFirst<<min(r.silent, 8), silenceMax)
	r.silent++
	p.wakeAfter(r, wait)
}

// permanent returns the refusal for a request that NATS will never accept. It returns nil
// if NATS may accept it over another connection.
func (p *Publisher) permanent(r *request, err error) *proto.Refusal {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return proto.Refuse(proto.TooLarge, "the message is larger than the NATS server accepts (%d bytes with its headers); send less", p.nc.MaxPayload())
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrInvalidMsg), errors.Is(err, nats.ErrBadHeaderMsg), errors.Is(err, nats.ErrHeadersNotSupported):
		p.cfg.Log.Error("publish message", "room", r.say.Room.String(), "error", err)
		return proto.AsRefusal(err)
	}
	return nil
}

// retry sends the request again later, because no instance could accept it. The jitter
// keeps gateways from trying in step.
func (p *Publisher) retry(r *request) {
	wait := min(refusedFirst<<min(r.refused, 8), refusedMax)
	r.refused++
	p.wakeAfter(r, wait/2+rand.N(wait))
}

// wakeAfter sets the request's timer, at most to its deadline.
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

// answered handles one message to the inbox: an answer, a "no responders", or an answer to
// a request that is over, perhaps of an earlier process with the same id.
func (p *Publisher) answered(m *nats.Msg) {
	token, try, _ := strings.Cut(strings.TrimPrefix(m.Subject, p.inbox), "-")
	r := p.open[token]
	if r == nil {
		return
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		p.retry(r)
		return
	}
	reply, err := proto.ParseReply(m.Data)
	if err != nil {
		p.cfg.Log.Error("parse answer of the room service", "room", r.say.Room.String(), "error", err)
		reply = proto.Reply{Refusal: proto.AsRefusal(err)}
	}
	switch {
	case reply.Refusal == nil:
	case reply.Refusal.Code == proto.Unavailable:
		p.retry(r)
		return
	case try != strconv.FormatUint(r.tries, 36):
		// A later try may have found the room open that this one found closed. Only the
		// answer to the last try says what became of the message.
		return
	}
	p.finish(r, reply)
}
