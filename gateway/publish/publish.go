// Package publish sends messages and acts to the room service and reports each answer.
//
// For each sender and room, it sends one message at a time. It repeats that message until the
// room's owner answers. Meanwhile the later messages of the sender wait, so they keep their
// order. A repeated message is stored once, because the owner recognises it by its key.
package publish

import (
	"context"
	"encoding/hex"
	"log/slog"
	"sync/atomic"
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/mailbox"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/seal"
)

// Carrier brings requests to the room service and returns the replies.
type Carrier interface {
	// Answers makes the carrier call answer for each reply, with the token of the attempt that
	// the reply belongs to. The carrier calls answer from any goroutine, so answer must not
	// block. Replies may be late or missing.
	Answers(answer func(token string, r proto.Reply)) error
	// Send sends a request once, under the given token. It must not change the request. If the
	// error is a *proto.Refusal, the publisher passes it to the sender. After any other error,
	// the publisher tries again.
	Send(token string, room proto.Room, r *proto.Request) error
}

// Say is a message or an act that somebody wants to send to a room.
type Say struct {
	Room    proto.Room
	From    proto.Identity
	Content proto.Content
	Line    bool      // Content is a line that a person typed; see [proto.Request]
	Act     proto.Act // "" = a message
	Why     string    // the moderator's reason, if it is an act
	Terms   proto.Terms
	Absent  bool         // the member of a kick is not in the room
	Rights  proto.Rights // the sender's rights in the room
	Key     string       // the sender's key; "" = the publisher makes a key

	// Sent is the content that the client sent, if the backend has changed it. Nil means that
	// Content is what the client sent. The digest for Key is made from Sent. A digest of Content
	// would not do, because the backend may change the content differently when the client
	// resends it.
	Sent *proto.Content

	// Stream means that the sender sends its next message without waiting for the answer to this one.
	// Suppose that the publisher refuses a message of such a sender temporarily. Then it also refuses
	// the sender's later messages, until the sender resends the refused one. So the messages keep
	// their order. See [limit.Resends].
	Stream bool

	// Patience is how long the publisher tries to send the message. Then it refuses the message
	// as unavailable.
	Patience time.Duration
}

// Config sets the limits of a publisher.
type Config struct {
	Log    *slog.Logger
	Keys   *seal.Keys    // hash Say.Sent into a digest
	Memory *limit.Budget // the bodies of waiting messages count as limit.Says

	MaxRequests  int  // waiting messages of all senders; more are refused as overloaded
	MaxPerSender int  // waiting messages of one sender in one room; more are refused as overloaded
	LogMessages  bool // log one line for each message, without its text
}

// DefaultConfig returns the default limits; the caller sets the other fields.
func DefaultConfig() Config { return Config{MaxRequests: 1 << 16, MaxPerSender: 256} }

// Stats contains a publisher's counters. It is safe for concurrent use.
type Stats struct {
	Resends atomic.Uint64 // requests that were sent again
	Expired atomic.Uint64 // requests that were not answered in time
	Waiting atomic.Int64  // requests that wait for an answer
}

// Publisher sends messages and acts to the room service. Say is safe for concurrent use and
// never blocks.
type Publisher struct {
	// static
	cfg     Config
	stats   *Stats
	in      *mailbox.Box[*request] // bounded by MaxRequests and Memory
	answers *mailbox.Box[answer]   // holds at most one answer for each attempt

	// owned by Run
	carrier Carrier
	queues  map[queueKey]*senderQueue
	open    map[string]*request // requests that were sent and not answered, by token
	resends map[queueKey]*limit.Resends
	sweepAt int // when resends has this many entries, resendsOf removes the outdated ones
	timers  timers
	tokens  uint64
}

// New returns a publisher. It sends nothing until Run is called.
func New(cfg Config) *Publisher {
	return &Publisher{
		cfg: cfg, stats: new(Stats), in: mailbox.New[*request](), answers: mailbox.New[answer](),
		queues: make(map[queueKey]*senderQueue), open: make(map[string]*request), resends: make(map[queueKey]*limit.Resends),
	}
}

// Stats returns the publisher's counters.
func (p *Publisher) Stats() *Stats { return p.stats }

// Say sends s to the room's owner. The publisher calls done exactly once, with the reply. If Say
// refuses s at once, it calls done before it returns. Otherwise the goroutine of Run calls done.
func (p *Publisher) Say(s Say, done func(proto.Reply)) {
	if p.cfg.LogMessages {
		done = p.logging(s, done)
	}
	r := newRequest(s, done)
	if s.Sent != nil {
		sent := proto.Request{Content: *s.Sent, Act: s.Act, Terms: s.Terms}
		digest := p.cfg.Keys.Digests(sent.Covered())[0]
		r.body.Sent = hex.EncodeToString(digest[:])
	}
	size := 2*len(s.Content.Body) + requestBytes // twice the body, because sealing makes a copy
	if r.over = p.stats.Waiting.Add(1) > int64(p.cfg.MaxRequests) || !p.cfg.Memory.Take(limit.Says, size); !r.over {
		r.keepBody(s.Content.Body, size)
	}
	if !p.in.Put(r) {
		p.answer(r, unavailable())
	}
}

// logging returns a function that writes a line to the log and then calls done.
func (p *Publisher) logging(s Say, done func(proto.Reply)) func(proto.Reply) {
	return func(r proto.Reply) {
		daemon.LogMessage(p.cfg.Log, s.Room, &proto.Request{From: s.From, Act: s.Act, Content: s.Content}, &r)
		done(r)
	}
}

// Run sends messages through carrier until ctx ends. Then it refuses the requests that were not
// answered.
func (p *Publisher) Run(ctx context.Context, carrier Carrier) error {
	p.carrier = carrier
	err := carrier.Answers(func(token string, r proto.Reply) { p.answers.Put(answer{token, r}) })
	if err != nil {
		return err
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var batch []*request
	var answers []answer
	for {
		if len(p.timers) > 0 {
			timer.Reset(time.Until(p.timers[0].due))
		}
		select {
		case <-ctx.Done():
			p.refuseAll()
			return nil
		case <-p.in.Wake():
			batch = p.in.Take(batch)
			for _, r := range batch {
				p.enter(r)
			}
		case <-p.answers.Wake():
			answers = p.answers.Take(answers)
			for i := range answers {
				p.answered(&answers[i])
			}
		case <-timer.C:
		}
		for now := time.Now(); len(p.timers) > 0 && !p.timers[0].due.After(now); {
			p.expired(p.timers[0], now)
		}
	}
}

func (p *Publisher) refuseAll() {
	for _, r := range p.in.Close() {
		p.answer(r, unavailable())
	}
	for _, queue := range p.queues {
		for _, r := range *queue {
			p.answer(r, unavailable())
		}
	}
}

// answer passes the reply for a request to its sender, and gives the request's memory back to
// the budget.
func (p *Publisher) answer(r *request, reply proto.Reply) {
	p.stats.Waiting.Add(-1)
	p.cfg.Memory.Add(limit.Says, -r.size)
	r.done(reply)
}

// retryAfter is how long a client is asked to wait before it tries again.
const retryAfter = time.Second

func overloaded(why string) proto.Reply {
	return proto.Reply{Refusal: proto.Refuse(proto.Overloaded, "%s; send it again with the same key", why).After(retryAfter)}
}

func unavailable() proto.Reply {
	return proto.Reply{Refusal: proto.Refuse(proto.Unavailable, "the room cannot be reached now; send it again with the same key").After(retryAfter)}
}
