package hub

import (
	"sync"

	"roomcast/gateway/follow"
	"roomcast/gateway/limit"
	"roomcast/gateway/mailbox"
	"roomcast/proto"
)

// intake passes work from other goroutines to the hub's loop, in order. It implements
// [follow.Follower] for the hub. It bounds the bytes of the deliveries that wait, and drops the
// deliveries that do not fit. The members of the rooms concerned then receive the events from the
// log. An intake is safe for concurrent use.
type intake struct {
	box *mailbox.Box[item]

	mu      sync.Mutex // guards the fields below, and keeps them consistent with box
	bytes   int        // total size of the deliveries in box
	held    limit.Part // the same bytes in the memory budget, plus the bytes of the batch that the loop is handling
	dropped map[proto.Room]dropped
	drops   uint64

	spare []item // the items of the last batch, for reuse; owned by the loop
}

// dropped summarizes the dropped deliveries of a room. Their content is in the log.
type dropped struct {
	seq   uint64          // seq of the newest event
	epoch string          // epoch of the newest event
	act   follow.Delivery // the newest close or reopening; if its Seq is 0, there was none
	reset bool            // a gap, a loss, a kick or a ban was dropped, or the epoch changed

	limits *proto.Restrictions // the room's restrictions after the newest event
}

// item is either a function to run or a delivery to handle.
type item struct {
	do       func()
	delivery follow.Delivery
}

// itemBytes is the size of an item without its payload.
const itemBytes = 128

func newIntake(most int, memory *limit.Budget, wake func()) *intake {
	return &intake{box: mailbox.NewBounded[item](most, wake), held: memory.Part(limit.Inboxes)}
}

// Deliver implements [follow.Follower].
func (in *intake) Deliver(d follow.Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	size := len(d.JSON) + itemBytes
	// When a delivery of a room was dropped, also drop all later deliveries of the room until
	// the next batch. They may belong to another epoch.
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

// post makes the loop run f, after all items that were added before. It has no bound, because
// there are only a few functions for each connection and each room.
func (in *intake) post(f func()) { in.box.Put(item{do: f}) }

// batch contains the items that were added since the last batch.
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

// done is called when the loop has handled a batch. It returns the batch's memory to the budget.
func (in *intake) done(b *batch) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.held.Add(-b.bytes)
	in.held.Settle()
}
