package publish

import (
	"container/heap"
	"maps"
	"time"

	"roomcast/gateway/limit"
	"roomcast/proto"
)

// queueKey names a sender in a room.
type queueKey struct {
	sender string
	room   proto.Room
}

// senderQueue holds the waiting requests of one sender in one room. The publisher has sent
// the first; the others wait for its answer.
type senderQueue []*request

func (r *request) queue() queueKey { return queueKey{r.body.From.ID, r.room} }

// enter appends a request to its queue, or refuses it for now.
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

// refuseEntry refuses for now a request that is in no queue.
func (p *Publisher) refuseEntry(r *request, reply proto.Reply) {
	if r.stream && r.key != "" {
		reply.Refusal = p.resendsOf(r.queue()).Refused(r.key, reply.Refusal, time.Now())
	}
	p.answer(r, reply)
}

// resendsOf returns the messages that one sender must send again in one room. Some senders never
// do so; resendsOf removes their entries each time the number of entries has doubled. Beyond
// MaxRequests entries it keeps no new ones. The messages of a sender without an entry may change
// their order if it does not wait for a refused one.
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

// finish answers the first request of a queue and sends the next one. After a timeout or a
// temporary refusal, it refuses the later requests of the queue too. Otherwise the owner would
// store them before the sender's next try of the first one.
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

// refuseRest refuses all requests of a queue that finish has removed.
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
	for _, r := range rest {
		p.answer(r, reply)
	}
}
