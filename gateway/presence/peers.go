package presence

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/follow"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/seal"
)

const (
	aliveEvery = 2 * time.Second
	deadAfter  = 7 * time.Second        // without a heartbeat
	whoStall   = 300 * time.Millisecond // to wait for the next answer
	whoTime    = time.Second            // to wait for all of them
)

// Payloads of room.gw.<id>.
const (
	signHello = "hello" // a gateway has started or returned, and asks the others for a heartbeat
	signAlive = "alive"
	signBye   = "bye"
)

// peers knows which gateways live, and the questions that wait for their answers. Every
// gateway answers for every room, so that an asker knows when it has all answers.
type peers struct {
	others   map[string]time.Time // when each was last heard
	expired  map[string]bool      // those given up and not heard since
	pending  map[proto.Room]*inquiry
	tokens   map[string]*inquiry
	next     uint64
	started  time.Time
	announce time.Time // when to send the next heartbeat
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

// whoAnswer is what one gateway says about a room.
type whoAnswer struct {
	Gateway string           `json:"gateway"`
	Count   int              `json:"count"`
	List    []proto.Identity `json:"list,omitempty"`
}

func newPeers() *peers {
	return &peers{
		others: make(map[string]time.Time), expired: make(map[string]bool),
		pending: make(map[proto.Room]*inquiry), tokens: make(map[string]*inquiry),
	}
}

func (p *Presence) sign(what string) {
	p.peers.announce = time.Now().Add(aliveEvery)
	_ = p.nc.Publish(proto.GatewaySubject(p.cfg.ID), []byte(what)) // without NATS the others notice the silence
}

func (p *Presence) signed(id, what string) {
	t := p.peers
	if id == p.cfg.ID {
		return
	}
	if what == signBye {
		p.bury(id)
		return
	}
	if _, known := t.others[id]; !known || what == signHello {
		t.announce = time.Now() // at the next tick
	}
	t.others[id] = time.Now()
	if t.expired[id] {
		delete(t.expired, id)
		p.recount() // it was only out of reach, and has given this one up too
	}
}

func (p *Presence) bury(id string) {
	delete(p.peers.others, id)
	p.gone(id)
}

func (p *Presence) tick(now time.Time) {
	t := p.peers
	if asleep := now.Sub(p.ticked); asleep > deadAfter/2 && !p.ticked.IsZero() {
		p.back() // this process was stopped, and the others may have given it up
		p.recount()
	}
	p.ticked = now
	if !now.Before(t.announce) {
		p.sign(signAlive)
	}
	for id, heard := range t.others {
		if now.Sub(heard) > deadAfter && p.nc.IsConnected() {
			p.cfg.Log.Warn("peer gateway timed out", "gateway", id)
			p.bury(id)
			t.expired[id] = true
		}
	}
	for _, q := range t.pending {
		if now.Sub(q.heard) >= whoStall || now.Sub(q.begun) >= whoTime {
			p.close(q)
		}
	}
	p.announceDirty(now)
}

// back starts the clocks of all peers again after a time in which none could be heard.
func (p *Presence) back() {
	for id := range p.peers.others {
		p.peers.others[id] = time.Now()
	}
	p.sign(signHello)
}

// serve answers who is here.
func (p *Presence) serve(m *nats.Msg) {
	room, err := proto.RoomOfSubject(m.Subject)
	if err != nil {
		return
	}
	reply := m.Reply
	p.whoIsHere(room, func(count int, list []proto.Identity) {
		body, err := json.Marshal(whoAnswer{p.cfg.ID, count, list})
		if err != nil {
			p.cfg.Log.Error("encode members", "error", err)
			return
		}
		out := nats.NewMsg(reply)
		out.Data = p.cfg.Keys.Seal(room, seal.Who, "", body)
		_ = p.nc.PublishMsg(out) // without NATS the asker notices the silence
	})
}

func (p *Presence) ask(room proto.Room, done func(count int, list []proto.Identity, err error)) {
	t := p.peers
	if q := t.pending[room]; q != nil {
		q.done = append(q.done, done)
		return
	}
	now := time.Now()
	t.next++
	q := &inquiry{room: room, token: strconv.FormatUint(t.next, 36), answered: make(map[string]bool), begun: now, heard: now}
	q.done = append(q.done, done)
	if err := p.nc.PublishRequest(room.WhoSubject(), p.home+q.token, nil); err != nil {
		q.finish(reads.Unavailable())
		return
	}
	t.pending[room] = q
	t.tokens[q.token] = q
}

func (p *Presence) answered(m *nats.Msg) {
	token := strings.TrimPrefix(m.Subject, p.home)
	if here := m.Header.Get(headerHere); here != "" {
		p.answeredCount(token, here)
		return
	}
	q := p.peers.tokens[token]
	if q == nil {
		return
	}
	body := m.Data
	if p.cfg.Keys != nil {
		var err error
		if body, err = p.cfg.Keys.Open(q.room, seal.Who, "", body); err != nil {
			p.stats.Bad.Add(1)
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
	if p.allAnswered(q) {
		p.close(q)
	}
}

// allAnswered reports whether every living gateway has answered. Shortly after the start
// this gateway does not know all of them.
func (p *Presence) allAnswered(q *inquiry) bool {
	if time.Since(p.peers.started) < whoTime || !q.answered[p.cfg.ID] {
		return false
	}
	for id := range p.peers.others {
		if !q.answered[id] {
			return false
		}
	}
	return true
}

func (p *Presence) close(q *inquiry) {
	delete(p.peers.pending, q.room)
	delete(p.peers.tokens, q.token)
	q.finish(nil)
}

func (q *inquiry) finish(err error) {
	for _, done := range q.done {
		done(q.count, q.list, err)
	}
}

// whoIsHere asks the loops who is in the room. The last loop that answers calls answer.
func (p *Presence) whoIsHere(name proto.Room, answer func(count int, list []proto.Identity)) {
	asked := p.feeds.Followers(name, func(followers []follow.Follower) {
		if len(followers) == 0 {
			answer(0, nil)
			return
		}
		var mu sync.Mutex
		count, left := 0, len(followers)
		var list []proto.Identity
		for _, f := range followers {
			f.Who(name, func(n int, some []proto.Identity) {
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
