package hub

import (
	"sync"

	"roomcast/gateway/follow"
	"roomcast/gateway/limit"
	"roomcast/gateway/mailbox"
	"roomcast/proto"
)

// intake passes work from other goroutines to a hub's loop, in order. It is the hub's
// [follow.Follower]. The deliveries that wait are bounded in bytes. The intake drops those that do
// not fit; the members of their rooms then read the log. It is safe for concurrent use.
type intake struct {
	box *mailbox.Box[item]

	mu      sync.Mutex // guards the fields below, and keeps them consistent with box
	bytes   int        // of the deliveries in box
	held    limit.Part // bytes, and the size of the deliveries that the loop is handling
	dropped map[proto.Room]dropped
	drops   uint64

	spare []item // owned by the loop: the last batch
}

// dropped summarizes the dropped deliveries of a room; the log has their content.
type dropped struct {
	seq   uint64          // the newest
	epoch string          // of the newest
	act   follow.Delivery // the newest closing or reopening; Seq 0 = there was neither
	reset bool            // a gap, a loss, a kick or a ban was dropped, or the epoch changed

	limits *proto.Restrictions // after the newest
}

// item is one thing to do: a function to run, or a delivery.
type item struct {
	do       func()
	delivery follow.Delivery
}

// itemBytes is the cost of an item beside its payload.
const itemBytes = 128

func newIntake(most int, memory *limit.Budget, wake func()) *intake {
	return &intake{box: mailbox.NewBounded[item](most, wake), held: memory.Part(limit.Inboxes)}
}

// Deliver implements [follow.Follower].
func (in *intake) Deliver(d follow.Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	size := len(d.JSON) + itemBytes
	// After the first dropped delivery of a room the later ones are dropped too: they may be
	// of another epoch.
	m, late := in.dropped[d.Room]
	if !late && in.box.Offer(item{delivery: d}, size) {
		in.bytes += size
		in.held.Add(size)
		return
	}
	if in.dropped == nil {
		in.dropped = make(map[proto.Room]dropped)
	}
	m.reset = m.reset || d.Gap != nil || d.Lost != nil || m.seq > 0 && d.Seq > 0 && d.Epoch != m.epoch
	if d.Seq > 0 {
		m.seq, m.epoch, m.limits = max(m.seq, d.Seq), d.Epoch, d.Limits
	}
	m.reset = m.reset || d.Kind == proto.Kicked || d.Kind == proto.Banned
	if d.Kind == proto.Closed || d.Kind == proto.Reopened {
		m.act = d
	}
	in.dropped[d.Room] = m
	in.drops++
}

// post runs f on the loop, after everything that came before it. The queue is not bounded: the
// numbers of connections and rooms limit how many functions wait.
func (in *intake) post(f func()) { in.box.Put(item{do: f}) }

// batch is the work that has come since the last batch.
type batch struct {
	items   []item
	dropped map[proto.Room]dropped
	drops   uint64
	bytes   int
}

func (in *intake) take() (b batch) {
	in.mu.Lock()
	defer in.mu.Unlock()
	b = batch{in.box.Take(in.spare), in.dropped, in.drops, in.bytes}
	in.dropped, in.drops, in.bytes, in.spare = nil, 0, 0, b.items
	return b
}

// done releases the memory of a batch that the loop has handled.
func (in *intake) done(b *batch) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.held.Add(-b.bytes)
	in.held.Settle()
}
