package bridge

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

const (
	aliveEvery = 2 * time.Second
	deadAfter  = 7 * time.Second        // without a sign of life
	whoStall   = 300 * time.Millisecond // to wait for the next answer
	whoTime    = time.Second            // to wait for all of them
	whoBuffer  = 1 << 12
	rosterTick = 100 * time.Millisecond
)

// Payloads of room.gw.<id>.
const (
	signHello = "hello" // a gateway has come, or come back: tell it that you live
	signAlive = "alive"
	signBye   = "bye"
)

// roster knows which gateways live and asks them who is in a room. Signs of life are
// plain messages: a lease in a bucket would tell the same to the same gateways, and cost
// a write each time. Every gateway answers for every room, if only with none, so that an
// asker knows when it has heard all and need not wait for silence.
type roster struct {
	b       *Bridge
	in      chan *nats.Msg
	asks    *queue[whoAsk]
	revived chan struct{} // NATS is back

	// owned by run
	nc       *nats.Conn
	home     string               // prefix of the subjects of answers; a token follows
	others   map[string]time.Time // when each was last heard
	buried   map[string]bool      // those that were given up and not heard since
	pending  map[proto.Room]*inquiry
	tokens   map[string]*inquiry
	next     uint64
	started  time.Time
	announce time.Time // when to give the next sign of life
	ticked   time.Time // when tick was last called
}

type whoAsk struct {
	room proto.Room
	done func(count int, list []proto.Identity, err error)
}

// inquiry is one question to all gateways. Equal questions share it.
type inquiry struct {
	room     proto.Room
	token    string
	done     []func(count int, list []proto.Identity, err error)
	answered map[string]bool // by gateway
	count    int
	list     []proto.Identity
	begun    time.Time
	heard    time.Time
}

// whoAnswer is what one gateway says of a room.
type whoAnswer struct {
	Gateway string           `json:"gateway"`
	Count   int              `json:"count"`
	List    []proto.Identity `json:"list,omitempty"`
}

func newRoster(b *Bridge) *roster {
	return &roster{
		b: b, in: make(chan *nats.Msg, whoBuffer), asks: newQueue[whoAsk](), revived: make(chan struct{}, 1),
		others: make(map[string]time.Time), buried: make(map[string]bool), pending: make(map[proto.Room]*inquiry), tokens: make(map[string]*inquiry),
	}
}

// run serves until ctx ends.
func (t *roster) run(ctx context.Context, nc *nats.Conn) error {
	t.nc, t.home, t.started = nc, shownInbox(nc), time.Now()
	for _, subject := range []string{proto.SubjectAnyGate, proto.SubjectAnyWho, t.home + "*"} {
		if _, err := nc.ChanSubscribe(subject, t.in); err != nil {
			return err
		}
	}
	t.sign(signHello)
	ticker := time.NewTicker(rosterTick)
	defer ticker.Stop()
	var batch []whoAsk
	for {
		select {
		case <-ctx.Done():
			t.sign(signBye)
			for _, ask := range t.asks.close() {
				ask.done(0, nil, errUnavailable())
			}
			for _, q := range t.pending {
				q.finish(errUnavailable())
			}
			return nil
		case <-t.asks.wake:
			batch = t.asks.take(batch)
			for _, ask := range batch {
				t.ask(ask)
			}
		case m := <-t.in:
			t.arrived(m)
		case <-t.revived:
			t.back()
		case now := <-ticker.C:
			t.tick(now)
		}
	}
}

func (t *roster) sign(what string) {
	t.announce = time.Now().Add(aliveEvery)
	_ = t.nc.Publish(proto.GatewaySubject(t.b.cfg.ID), []byte(what)) // away: the others see that by the silence
}

func (t *roster) arrived(m *nats.Msg) {
	switch {
	case strings.HasPrefix(m.Subject, t.home):
		t.answer(m)
	case strings.HasPrefix(m.Subject, prefixWho):
		if proto.Answerable(m.Reply) {
			t.serve(m)
		}
	default:
		t.signed(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], string(m.Data))
	}
}

func (t *roster) signed(id, what string) {
	if id == t.b.cfg.ID {
		return
	}
	if what == signBye {
		t.bury(id)
		return
	}
	if _, known := t.others[id]; !known || what == signHello {
		t.announce = time.Now() // at the next tick: let it know of us
	}
	t.others[id] = time.Now()
	if t.buried[id] {
		delete(t.buried, id)
		t.b.eachFeed((*feed).recount) // it was only out of reach, and has given us up too
	}
}

func (t *roster) bury(id string) {
	delete(t.others, id)
	t.b.eachFeed(func(f *feed) { f.gone(id) })
}

func (t *roster) tick(now time.Time) {
	if asleep := now.Sub(t.ticked); asleep > deadAfter/2 && !t.ticked.IsZero() {
		t.back() // this process was stopped, and the others may have given it up
		t.b.eachFeed((*feed).recount)
	}
	t.ticked = now
	if !now.Before(t.announce) {
		t.sign(signAlive)
	}
	for id, heard := range t.others {
		if now.Sub(heard) > deadAfter && t.nc.IsConnected() {
			t.b.cfg.Log.Warn("gateway is not heard of any more", "gateway", id)
			t.bury(id)
			t.buried[id] = true
		}
	}
	for _, q := range t.pending {
		if now.Sub(q.heard) >= whoStall || now.Sub(q.begun) >= whoTime {
			t.close(q)
		}
	}
}

// back begins anew after a time in which nobody could be heard.
func (t *roster) back() {
	for id := range t.others {
		t.others[id] = time.Now()
	}
	t.sign(signHello)
}

// serve answers who is here.
func (t *roster) serve(m *nats.Msg) {
	room, err := proto.RoomOfSubject(m.Subject)
	if err != nil {
		return
	}
	reply := m.Reply
	t.b.whoIsHere(room, func(count int, list []proto.Identity) {
		body, err := json.Marshal(whoAnswer{t.b.cfg.ID, count, list})
		if err != nil {
			t.b.cfg.Log.Error("members cannot be told", "error", err)
			return
		}
		out := nats.NewMsg(reply)
		out.Data = t.b.cfg.Keys.Seal(room, seal.Who, "", body)
		_ = t.nc.PublishMsg(out) // away: the asker goes by the silence
	})
}

func (t *roster) ask(a whoAsk) {
	if q := t.pending[a.room]; q != nil {
		q.done = append(q.done, a.done)
		return
	}
	now := time.Now()
	t.next++
	q := &inquiry{room: a.room, token: strconv.FormatUint(t.next, 36), answered: make(map[string]bool), begun: now, heard: now}
	q.done = append(q.done, a.done)
	if err := t.nc.PublishRequest(a.room.WhoSubject(), t.home+q.token, nil); err != nil {
		q.finish(errUnavailable())
		return
	}
	t.pending[a.room] = q
	t.tokens[q.token] = q
}

func (t *roster) answer(m *nats.Msg) {
	q := t.tokens[strings.TrimPrefix(m.Subject, t.home)]
	if q == nil {
		return
	}
	body := m.Data
	if t.b.cfg.Keys != nil {
		var err error
		if body, err = t.b.cfg.Keys.Open(q.room, seal.Who, "", body); err != nil {
			t.b.stat.bad.Add(1)
			return
		}
	}
	var a whoAnswer
	if err := json.Unmarshal(body, &a); err != nil || q.answered[a.Gateway] {
		return
	}
	q.answered[a.Gateway] = true
	q.heard = time.Now()
	q.count += a.Count
	q.list = append(q.list, a.List[:min(len(a.List), proto.MaxListed-len(q.list))]...)
	if t.allAnswered(q) {
		t.close(q)
	}
}

// allAnswered reports whether every gateway that lives has answered. Shortly after the
// start not all of them are known.
func (t *roster) allAnswered(q *inquiry) bool {
	if time.Since(t.started) < whoTime || !q.answered[t.b.cfg.ID] {
		return false
	}
	for id := range t.others {
		if !q.answered[id] {
			return false
		}
	}
	return true
}

func (t *roster) close(q *inquiry) {
	delete(t.pending, q.room)
	delete(t.tokens, q.token)
	q.finish(nil)
}

func (q *inquiry) finish(err error) {
	for _, done := range q.done {
		done(q.count, q.list, err)
	}
}

// whoIsHere asks the loops who is in the room; answer is called once, by whoever is the
// last to know.
func (b *Bridge) whoIsHere(name proto.Room, answer func(count int, list []proto.Identity)) {
	f := b.feedOf(name)
	asked := f.do.put(func() {
		r := f.rooms[name.Token()]
		if r == nil || len(r.followers) == 0 {
			answer(0, nil)
			return
		}
		var mu sync.Mutex
		count, left := 0, len(r.followers)
		var list []proto.Identity
		for _, who := range r.followers {
			who.Who(name, func(n int, some []proto.Identity) {
				mu.Lock()
				defer mu.Unlock()
				count += n
				list = append(list, some[:min(len(some), proto.MaxListed-len(list))]...)
				if left--; left == 0 {
					answer(count, list)
				}
			})
		}
	})
	if !asked {
		answer(0, nil)
	}
}
