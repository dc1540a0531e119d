package publish

import (
	"bytes"
	"time"

	"github.com/nats-io/nuid"

	"roomcast/proto"
)

// requestBytes is about what a request costs beside its body.
const requestBytes = 1 << 10

// request is one Say until it is answered. After Say has made it, it is owned by Run.
type request struct {
	room     proto.Room
	body     proto.Request // what the carrier sends
	stream   bool          // as in [Say]
	key      string        // as the sender gave it; "" = none
	over     bool          // it exceeds the limits, and waits only to be refused in its turn
	size     int           // bytes counted in the memory budget
	done     func(proto.Reply)
	deadline time.Time

	token    string    // "" = it has not been sent
	tries    uint64    // each has a token of its own, which begins with the request's
	refused  int       // tries that no instance could accept
	silent   int       // tries without an answer
	due      time.Time // when to try again or give up
	position int       // in the heap of timers; -1 = not there
}

func newRequest(s Say, done func(proto.Reply)) *request {
	r := &request{
		room: s.Room, stream: s.Stream, key: s.Key, done: done, deadline: time.Now().Add(s.Patience), position: -1,
		body: proto.Request{From: s.From, Key: s.Key, Content: s.Content, Line: s.Line, Act: s.Act, Why: s.Why, Terms: s.Terms, Rights: s.Rights},
	}
	if r.body.Content.Body = nil; s.Key == "" {
		r.body.Key, r.body.Hidden = nuid.Next(), true
	}
	return r
}

// keepBody copies the body of the message, whose memory has been counted as size.
func (r *request) keepBody(body []byte, size int) {
	r.body.Content.Body, r.size = bytes.Clone(body), size
}

// timers is a heap of requests; the one that is due first is on top. It implements
// [heap.Interface].
type timers []*request

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].position, t[j].position = i, j
}

func (t *timers) Push(x any) {
	r := x.(*request)
	r.position = len(*t)
	*t = append(*t, r)
}

func (t *timers) Pop() any {
	old := *t
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	r.position = -1
	return r
}
