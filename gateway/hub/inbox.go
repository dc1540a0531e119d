package hub

import (
	"sync"

	"roomcast/gateway/bridge"
	"roomcast/proto"
)

// inbox is where other goroutines leave work for a hub's loop, in order. It is the
// hub's [bridge.Follower]. Deliveries are bounded in bytes: those that do not fit are
// let go, the room is noted, and its members read the log instead.
type inbox struct {
	hub *Hub

	mu     sync.Mutex
	items  []item
	bytes  int
	missed map[proto.Room]uint64 // the newest seq that was let go
	posted bool                  // drain will run

	draining []item // owned by the loop: what items was
}

// item is a delivery, or something else to do.
type item struct {
	delivery bridge.Delivery
	do       func()
}

// itemBytes is what an item costs beside its payload.
const itemBytes = 128

// Deliver implements [bridge.Follower].
func (in *inbox) Deliver(d bridge.Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	size := len(d.JSON) + itemBytes
	if in.bytes+size > in.hub.cfg.InboxBytes {
		if in.missed == nil {
			in.missed = make(map[proto.Room]uint64)
		}
		in.missed[d.Room] = max(in.missed[d.Room], d.Seq)
		in.hub.stats.InboxDrops.Add(1)
		return
	}
	in.bytes += size
	in.add(item{delivery: d})
}

// Who implements [bridge.Follower].
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
	items, missed := in.items, in.missed
	in.items, in.missed, in.bytes, in.posted = in.draining[:0], nil, 0, false
	in.mu.Unlock()
	for i := range items {
		if it := &items[i]; it.do != nil {
			it.do()
		} else {
			in.hub.deliver(&it.delivery)
		}
	}
	for room, seq := range missed {
		in.hub.skipTo(in.hub.rooms[room], seq)
	}
	clear(items)
	if cap(items) > 512 {
		items = nil
	}
	in.draining = items
}
