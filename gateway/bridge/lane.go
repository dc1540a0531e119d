package bridge

import (
	"container/heap"
	"maps"
	"time"

	"roomcast/gateway/limit"
	"roomcast/proto"
)

type laneKey struct {
	sender string
	room   proto.Room
}

// lane holds the requests of one sender in one room. The first is outstanding.
type lane []*request

// enter lets a request into its lane, or refuses it for now.
func (l *lanes) enter(r *request) {
	key := laneKey{r.say.From.ID, r.say.Room}
	waiting, resends := l.lanes[key], l.resends[key]
	if r.say.Stream && resends != nil {
		if why := resends.Check(r.key, time.Now()); why != nil {
			l.answer(r, proto.Reply{Refusal: why})
			return
		}
	}
	switch {
	case r.over:
		l.refuseFirst(key, r, overloaded("this gateway has too much to send"))
		return
	case waiting != nil && len(*waiting) >= l.cfg.MaxLane:
		l.refuseFirst(key, r, overloaded("too many messages of yours are waiting in this room"))
		return
	}
	if r.say.Stream && resends != nil {
		if resends.Taken(r.key); resends.Empty(time.Now()) {
			delete(l.resends, key)
		}
	}
	if waiting == nil {
		l.lanes[key] = &lane{r}
		l.send(r)
		return
	}
	*waiting = append(*waiting, r)
}

// refuseFirst refuses for now a request that has not come into its lane.
func (l *lanes) refuseFirst(key laneKey, r *request, reply proto.Reply) {
	if r.say.Stream && r.key != "" {
		reply.Refusal = l.resendsOf(key).Refused(r.key, reply.Refusal, time.Now())
	}
	l.answer(r, reply)
}

// resendsOf returns the messages of a lane that have to come again. Senders that never
// send again leave theirs behind; each doubling of the count removes those. Beyond MaxRequests lanes nothing
// is kept, and only senders that wait for a refused message keep their order.
func (l *lanes) resendsOf(key laneKey) *limit.Resends {
	if r := l.resends[key]; r != nil {
		return r
	}
	if len(l.resends) >= max(l.sweepAt, 64) {
		now := time.Now()
		maps.DeleteFunc(l.resends, func(_ laneKey, r *limit.Resends) bool { return r.Empty(now) })
		l.sweepAt = 2 * len(l.resends)
	}
	r := new(limit.Resends)
	if len(l.resends) < l.cfg.MaxRequests {
		l.resends[key] = r
	}
	return r
}

// finish answers the request and goes on with its lane. If it is refused for now, or the
// time of the next one has run out, everything behind it is refused with the same code.
func (l *lanes) finish(r *request, reply proto.Reply) {
	delete(l.open, r.token)
	if r.position >= 0 {
		heap.Remove(&l.timers, r.position)
	}
	key := laneKey{r.say.From.ID, r.say.Room}
	waiting := *l.lanes[key]
	rest := waiting[1:]
	waiting[0] = nil
	refused := reply.Refusal != nil && reply.Refusal.Temporary()
	if !refused {
		l.answer(r, reply)
		if len(rest) == 0 {
			delete(l.lanes, key)
			return
		}
		if next := rest[0]; time.Now().Before(next.deadline) {
			*l.lanes[key] = rest
			l.send(next)
			return
		}
		reply = unavailable()
	} else {
		rest = append([]*request{r}, rest...)
	}
	delete(l.lanes, key)
	if reply.Refusal.Code == proto.Unavailable {
		l.stat.expired.Add(uint64(len(rest)))
	}
	var keys []string
	for _, r := range rest {
		if r.say.Stream && r.key != "" {
			keys = append(keys, r.key)
		}
	}
	if len(keys) > 0 {
		l.resendsOf(key).Returned(keys, reply.Refusal, time.Now())
	}
	for _, r := range rest {
		l.answer(r, reply)
	}
}
