package publish

import (
	"container/heap"
	"maps"
	"time"

	"roomcast/gateway/limit"
	"roomcast/proto"
)

// queueKey identifies the queue of one sender in one room.
type queueKey struct {
	sender string
	room   proto.Room
}

// senderQueue contains the waiting requests of one sender in one room. The publisher has sent
// the first request. The others wait until the first is answered. The goroutine of Run owns the
// queue.
type senderQueue []*request

func (r *request) queue() queueKey { return queueKey{r.body.From.ID, r.room} }

// enter appends a request to its queue. If there is no space for the request, enter refuses the
// request temporarily.
func (p *Publisher) enter(r *request) {
	key := r.queue()
	waiting, resends := p.queues[key], p.resends[key]
	if r.stream && resends != nil {
		if why := resends.Check(r.key, time.Now()); why != nil {
			p.answer(r, proto.Reply{Refusal: why})
			return
		}
	}
	switch {
	case r.over:
		p.refuseEntry(r, overloaded("this gateway has too much to send"))
		return
	case waiting != nil && len(*waiting) >= p.cfg.MaxPerSender:
		p.refuseEntry(r, overloaded("too many messages of yours are waiting in this room"))
		return
	}
	if r.stream && resends != nil {
		if resends.Taken(r.key); resends.Empty(time.Now()) {
			delete(p.resends, key)
		}
	}
	if waiting == nil {
		p.queues[key] = &senderQueue{r}
		p.send(r)
		return
	}
	*waiting = append(*waiting, r)
}

// refuseEntry temporarily refuses a request that is not in a queue.
func (p *Publisher) refuseEntry(r *request, reply proto.Reply) {
	if r.stream && r.key != "" {
		reply.Refusal = p.resendsOf(r.queue()).Refused(r.key, reply.Refusal, time.Now())
	}
	p.answer(r, reply)
}

// resendsOf returns the list of the messages that a sender must send again in a room. Some senders
// never send them again. So each time the number of lists has doubled, resendsOf deletes the
// outdated ones. When there are MaxRequests lists, it keeps no new one. Then the messages of a
// sender that does not wait for answers may be stored in another order.
func (p *Publisher) resendsOf(key queueKey) *limit.Resends {
	if r := p.resends[key]; r != nil {
		return r
	}
	if len(p.resends) >= max(p.sweepAt, 64) {
		now := time.Now()
		maps.DeleteFunc(p.resends, func(_ queueKey, r *limit.Resends) bool { return r.Empty(now) })
		p.sweepAt = 2 * len(p.resends)
	}
	r := new(limit.Resends)
	if len(p.resends) < p.cfg.MaxRequests {
		p.resends[key] = r
	}
	return r
}

// finish answers the first request of a queue and sends the next one. If the request timed out
// or was refused temporarily, finish refuses the later requests of the queue too. Otherwise the
// owner would store them before the first message, which the sender tries again later.
func (p *Publisher) finish(r *request, reply proto.Reply) {
	delete(p.open, r.token)
	if r.position >= 0 {
		heap.Remove(&p.timers, r.position)
	}
	key := r.queue()
	waiting := *p.queues[key]
	rest := waiting[1:]
	waiting[0] = nil
	if reply.Refusal == nil || !reply.Refusal.Temporary() {
		p.answer(r, reply)
		if len(rest) == 0 {
			delete(p.queues, key)
			return
		}
		if next := rest[0]; time.Now().Before(next.deadline) {
			*p.queues[key] = rest
			p.send(next)
			return
		}
		reply = unavailable()
	} else {
		rest = append([]*request{r}, rest...)
	}
	delete(p.queues, key)
	p.refuseRest(key, rest, reply)
}

// refuseRest refuses the requests that were left in a queue when the method finish deleted it.
func (p *Publisher) refuseRest(key queueKey, rest []*request, reply proto.Reply) {
	if reply.Refusal.Code == proto.Unavailable {
		p.stats.Expired.Add(uint64(len(rest)))
	}
	var keys []string
	for _, r := range rest {
		if r.stream && r.key != "" {
			keys = append(keys, r.key)
		}
	}
	if len(keys) > 0 {
		p.resendsOf(key).Returned(keys, reply.Refusal, time.Now())
	}
	for i, r := range rest {
		later := reply
		if i > 0 && r.stream && len(keys) > 0 && r.key != keys[0] {
			later.Refusal = limit.Behind(keys[0], reply.Refusal)
		}
		p.answer(r, later)
	}
}
