package publish

import (
	"bytes"
	"time"

	"github.com/nats-io/nuid"

	"roomcast/proto"
)

// requestBytes is the approximate memory of a request without its body.
const requestBytes = 1 << 10

// request is one Say until its answer. Say makes it; then Run owns it.
type request struct {
	room     proto.Room
	body     proto.Request // for the carrier
	stream   bool          // see [Say]
	key      string        // of the sender; "" = the sender gave none
	over     bool          // it exceeds the limits: enter refuses it, after earlier requests
	size     int           // its bytes in the memory budget
	done     func(proto.Reply)
	deadline time.Time

	token    string    // "" = it was not sent yet
	tries    uint64    // the token of a try is the request's, "-" and the number of the try
	refused  int       // tries that no instance could accept
	silent   int       // tries without an answer
	due      time.Time // of the next try or of the deadline
	position int       // in the heap of timers; -1 = it is not there
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

// keepBody copies the body of the message. The caller has taken size bytes from the budget.
func (r *request) keepBody(body []byte, size int) {
	r.body.Content.Body, r.size = bytes.Clone(body), size
}

// timers is a heap of requests with the earliest due time on top. It implements
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
