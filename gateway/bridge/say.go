package bridge

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"roomcast/gateway/limit"
	"roomcast/proto"
	"roomcast/proto/seal"
)

// How long to wait before the same is sent again. A room without an owner is told at
// once by "no responders", a lost request or answer by silence only.
const (
	refusedFirst = 50 * time.Millisecond // doubled each time
	refusedMax   = 500 * time.Millisecond
	silenceFirst = 500 * time.Millisecond // doubled each time
	silenceMax   = 2 * time.Second
)

// requestBytes is about what a request takes beside its body.
const requestBytes = 1 << 10

// retryAfter is what a client is told to wait when the log cannot be reached.
const retryAfter = time.Second

// lanes send what is said, on one connection and from one goroutine. Each sender has a
// lane in each room, in which one request is outstanding and the others wait: a request
// that must be sent again can then not be overtaken by a later one. Resending is safe,
// because every request carries a key by which the owner knows it.
//
// What waits is bounded three times: requests in all, their bytes, and requests in one
// lane. What does not fit is refused as overloaded. When a request is refused for now,
// those behind it are refused with the same code: stored now, they would come before it.
type lanes struct {
	cfg  Config
	in   *queue[*request]
	held atomic.Int64 // requests taken and not answered
	stat *counters

	// owned by run
	nc      *nats.Conn
	inbox   string // prefix of the reply subjects; a token follows. Nobody can guess it, or anybody could acknowledge
	answers chan *nats.Msg
	lanes   map[laneKey]*lane
	open    map[string]*request // outstanding ones by token
	resends map[laneKey]*limit.Resends
	sweepAt int // how many resends there are when the old ones are looked for
	timers  timers
	tokens  uint64
}

// request is one Say on its way.
type request struct {
	say      Say
	key      string // as its sender gave it; "" if it gave none
	over     bool   // it exceeds the limits, and comes in only to be refused in its turn
	size     int    // bytes of memory taken for it
	done     func(proto.Reply)
	deadline time.Time

	token    string
	msg      *nats.Msg // made when it is first sent; its Reply tells the tries apart
	tries    uint64
	refused  int       // times that nobody could take it
	silent   int       // times that it was sent without an answer yet
	due      time.Time // when to do something about it
	position int       // among the timers, -1 = none
}

func newLanes(cfg Config, stat *counters) *lanes {
	return &lanes{
		cfg: cfg, stat: stat, in: newQueue[*request](),
		answers: make(chan *nats.Msg, 1<<14),
		lanes:   make(map[laneKey]*lane), open: make(map[string]*request), resends: make(map[laneKey]*limit.Resends),
	}
}

func (l *lanes) say(s Say, done func(proto.Reply)) {
	r := &request{say: s, key: s.Key, done: done, deadline: time.Now().Add(s.Patience), position: -1}
	r.say.Content.Body = nil
	size := 2*len(s.Content.Body) + requestBytes // the body is there once more when it is sealed
	if r.over = l.held.Add(1) > int64(l.cfg.MaxRequests) || !l.cfg.Memory.Take(limit.Says, size); !r.over {
		r.say.Content.Body, r.size = bytes.Clone(s.Content.Body), size
	}
	if !l.in.put(r) {
		l.answer(r, unavailable())
	}
}

func overloaded(why string) proto.Reply {
	return proto.Reply{Refusal: proto.Refuse(proto.Overloaded, "%s; send it again with the same key", why).After(retryAfter)}
}

func unavailable() proto.Reply {
	return proto.Reply{Refusal: proto.Refuse(proto.Unavailable, "the room cannot be reached now; send it again with the same key").After(retryAfter)}
}

// run sends over nc until ctx ends, then refuses what has not been answered.
func (l *lanes) run(ctx context.Context, nc *nats.Conn) error {
	l.nc = nc
	l.inbox = proto.AckPrefix(l.cfg.ID) + rand.Text() + "-"
	sub, err := nc.ChanSubscribe(proto.AckPrefix(l.cfg.ID)+"*", l.answers)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var batch []*request
	for {
		if len(l.timers) > 0 {
			timer.Reset(time.Until(l.timers[0].due))
		}
		select {
		case <-ctx.Done():
			l.refuseAll()
			return nil
		case <-l.in.wake:
			batch = l.in.take(batch)
			for _, r := range batch {
				l.enter(r)
			}
		case m := <-l.answers:
			l.answered(m)
			for range len(l.answers) {
				l.answered(<-l.answers)
			}
		case <-timer.C:
		}
		for now := time.Now(); len(l.timers) > 0 && !l.timers[0].due.After(now); {
			l.expired(l.timers[0], now)
		}
	}
}

func (l *lanes) refuseAll() {
	for _, r := range l.in.close() {
		l.answer(r, unavailable())
	}
	for _, lane := range l.lanes {
		for _, r := range *lane {
			l.answer(r, unavailable())
		}
	}
}

// send sends the request, for the first time or again.
func (l *lanes) send(r *request) {
	if r.msg == nil {
		l.tokens++
		r.token = strconv.FormatUint(l.tokens, 36)
		r.msg = l.message(r)
		l.open[r.token] = r
	} else {
		l.stat.resends.Add(1)
	}
	r.tries++
	r.msg.Reply = l.inbox + r.token + "-" + strconv.FormatUint(r.tries, 36)
	if err := l.nc.PublishMsg(r.msg); err != nil {
		if refusal := l.permanent(r, err); refusal != nil {
			l.finish(r, proto.Reply{Refusal: refusal})
		} else {
			l.refused(r) // not connected; there is nothing to wait for
		}
		return
	}
	wait := min(silenceFirst<<min(r.silent, 8), silenceMax)
	r.silent++
	l.wake(r, wait)
}

func (l *lanes) message(r *request) *nats.Msg {
	s := &r.say
	req := proto.Request{From: s.From, Key: s.Key, Content: s.Content, Line: s.Line, Act: s.Act, Why: s.Why}
	if s.Key == "" {
		req.Key, req.Hidden = nuid.Next(), true
	}
	m := &nats.Msg{Subject: s.Room.Subject(), Header: req.Header()}
	m.Data = l.cfg.Keys.Seal(s.Room, seal.In, seal.Headers(m.Header), req.Payload())
	if l.cfg.Keys != nil {
		m.Header.Set(proto.HeaderEnc, seal.Mark)
	}
	return m
}

// permanent returns the refusal for a request that NATS will never take, nil if it may
// take it once there is a connection again.
func (l *lanes) permanent(r *request, err error) *proto.Refusal {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return proto.Refuse(proto.TooLarge, "the message is larger than the NATS server takes (%d bytes with its headers); send less", l.nc.MaxPayload())
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrInvalidMsg), errors.Is(err, nats.ErrBadHeaderMsg), errors.Is(err, nats.ErrHeadersNotSupported):
		l.cfg.Log.Error("message cannot be published", "error", err, slog.String("room", r.say.Room.String()))
		return proto.AsRefusal(err)
	}
	return nil
}

// refused has the request sent again later, since nobody could take it.
func (l *lanes) refused(r *request) {
	wait := min(refusedFirst<<min(r.refused, 8), refusedMax)
	r.refused++
	l.wake(r, wait/2+mathrand.N(wait))
}

func (l *lanes) wake(r *request, after time.Duration) {
	r.due = time.Now().Add(after)
	if r.due.After(r.deadline) {
		r.due = r.deadline
	}
	if r.position < 0 {
		heap.Push(&l.timers, r)
	} else {
		heap.Fix(&l.timers, r.position)
	}
}

func (l *lanes) expired(r *request, now time.Time) {
	if now.Before(r.deadline) {
		l.send(r)
		return
	}
	l.finish(r, unavailable())
}

// answered takes one message to our inbox: an answer, a "no responders", or an answer to
// something that is long over, perhaps of an earlier process of the same id.
func (l *lanes) answered(m *nats.Msg) {
	token, try, _ := strings.Cut(strings.TrimPrefix(m.Subject, l.inbox), "-")
	r := l.open[token]
	if r == nil {
		return
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		l.refused(r)
		return
	}
	reply, err := proto.ParseReply(m.Data)
	if err != nil {
		l.cfg.Log.Error("answer from roomsvc cannot be read", "error", err, slog.String("room", r.say.Room.String()))
		reply = proto.Reply{Refusal: proto.AsRefusal(err)}
	}
	switch {
	case reply.Refusal == nil:
	case reply.Refusal.Code == proto.Unavailable:
		l.refused(r)
		return
	case try != strconv.FormatUint(r.tries, 36):
		// The same has been sent again since, and a room that was closed then may have been
		// open when that arrived: only the answer to the last try says what became of it.
		return
	}
	l.finish(r, reply)
}

func (l *lanes) answer(r *request, reply proto.Reply) {
	l.held.Add(-1)
	l.cfg.Memory.Add(limit.Says, -r.size)
	r.done(reply)
}

// timers are requests, the one that is due first on top.
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
