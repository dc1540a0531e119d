package hub

import (
	"sync"

	"roomcast/gateway/follow"
	"roomcast/gateway/limit"
	"roomcast/proto"
)

// inbox is where other goroutines leave work for a hub's loop, in order. It is the
// hub's [follow.Follower]. Deliveries are bounded in bytes: those that do not fit are
// let go, the room is noted, and its members read the log instead.
type inbox struct {
	hub *Hub

	mu     sync.Mutex
	items  []item
	bytes  int
	held   limit.Part            // the bytes of items, and of what is being drained
	missed map[proto.Room]missed // what was let go
	posted bool                  // drain will run

	draining []item // owned by the loop: what items was
}

// missed is what a room must know of deliveries that were let go; the log has the rest.
type missed struct {
	seq   uint64          // the newest
	epoch string          // of seq
	act   follow.Delivery // the newest closing or reopening; its Seq is 0 if there is none
	reset bool            // there was a gap among them, or another epoch began
}

// item is a delivery, or something else to do.
type item struct {
	delivery follow.Delivery
	do       func()
}

// itemBytes is what an item costs beside its payload.
const itemBytes = 128

// Deliver implements [follow.Follower].
func (in *inbox) Deliver(d follow.Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	size := len(d.JSON) + itemBytes
	// Once something of a room was let go, so is what follows: it may be of another epoch.
	_, late := in.missed[d.Room]
	if late || in.bytes+size > in.hub.cfg.InboxBytes {
		if in.missed == nil {
			in.missed = make(map[proto.Room]missed)
		}
		m := in.missed[d.Room]
		m.reset = m.reset || d.Gap != nil || d.Lost != nil || m.seq > 0 && d.Seq > 0 && d.Epoch != m.epoch
		if d.Seq > 0 {
			m.seq, m.epoch = max(m.seq, d.Seq), d.Epoch
		}
		if d.Kind == proto.Closed || d.Kind == proto.Reopened {
			m.act = d
		}
		in.missed[d.Room] = m
		in.hub.stats.InboxDrops.Add(1)
		return
	}
	in.bytes += size
	in.held.Add(size)
	in.add(item{delivery: d})
}

// Who implements [follow.Follower].
func (in *inbox) Who(room proto.Room, answer func(count int, list []proto.Identity)) {
	in.put(func() { in.hub.answerWho(room, answer) })
}

// put has f run on the loop, after everything that came before it. There are no more
// of these than there are connections and rooms, so they are not bounded.
func (in *inbox) put(f func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.add(item{do: f})
}

func (in *inbox) add(it item) {
	in.items = append(in.items, it)
	if !in.posted {
		in.posted = in.hub.conns.Post(in.drain)
	}
}

// drain takes everything in.
func (in *inbox) drain() {
	in.mu.Lock()
	items, missed, bytes := in.items, in.missed, in.bytes
	in.items, in.missed, in.bytes, in.posted = in.draining[:0], nil, 0, false
	in.mu.Unlock()
	for i := range items {
		if it := &items[i]; it.do != nil {
			it.do()
		} else {
			in.hub.deliver(&it.delivery)
		}
	}
	for name, m := range missed {
		in.hub.letGo(in.hub.rooms[name], &m)
	}
	clear(items)
	if cap(items) > 512 {
		items = nil
	}
	in.draining = items
	in.mu.Lock()
	in.held.Add(-bytes)
	in.held.Settle()
	in.mu.Unlock()
}
