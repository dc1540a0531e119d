package publish

import (
	"bytes"
	"time"

	"github.com/nats-io/nuid"

	"roomcast/proto"
)

// requestBytes is roughly the memory that a request needs besides its body.
const requestBytes = 1 << 10

// request is one Say that waits for its answer. The method Say makes it, and then the goroutine
// of Run owns it.
type request struct {
	room     proto.Room
	body     proto.Request // the request that the carrier sends
	stream   bool          // see [Say]
	key      string        // the sender's key; "" = the sender gave no key
	over     bool          // the limits were exceeded; enter refuses the request when its turn comes
	size     int           // the bytes that it occupies in the memory budget
	done     func(proto.Reply)
	deadline time.Time

	token    string    // identifies the request; "" = it was not sent yet
	tries    uint64    // attempts so far; the token of an attempt is the request's token, "-" and this number
	refused  int       // attempts that no instance accepted
	silent   int       // attempts that nothing answered
	due      time.Time // when to send it again or to give up
	position int       // index of the request in the heap of timers; -1 = not in the heap
}

func newRequest(s Say, done func(proto.Reply)) *request {
	r := &request{
		room: s.Room, stream: s.Stream, key: s.Key, done: done, deadline: time.Now().Add(s.Patience), position: -1,
		body: proto.Request{From: s.From, Key: s.Key, Content: s.Content, Line: s.Line, Act: s.Act, Why: s.Why, Terms: s.Terms, Absent: s.Absent, Rights: s.Rights},
	}
	if r.body.Content.Body = nil; s.Key == "" {
		r.body.Key, r.body.Hidden = nuid.Next(), true
	}
	return r
}

// keepBody copies the message's body into the request. The caller has already taken size bytes
// from the memory budget.
func (r *request) keepBody(body []byte, size int) {
	r.body.Content.Body, r.size = bytes.Clone(body), size
}

// timers is a heap of requests, ordered by their due time. It implements [heap.Interface]. The
// goroutine of Run owns it.
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
