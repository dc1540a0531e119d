package hub

import (
	"testing"

	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/proto"
)

// noMemory fails unless everything that was taken from the budget has been given back.
func (w *world) noMemory() {
	w.t.Helper()
	w.hub.fanout.held.Settle()
	w.hub.out.Settle()
	for _, use := range limit.Uses() {
		if n := w.hub.cfg.Memory.Used(use); n != 0 {
			w.t.Errorf("%s: %d bytes are held by a hub that needs none", use, n)
		}
	}
}

// onePage fails if a connection has more than one page, or any while it takes no bytes.
func (w *world) onePage() {
	w.t.Helper()
	pages := make(map[uint32]int)
	for s, cu := range w.hub.catchups.members {
		c := w.hub.conns.at(s.id.Slot())
		if cu.holds != (c.flags&holding != 0) && cu.holds {
			w.t.Fatalf("connection %v does not know that a room of it has a page", s.id)
		}
		if cu.holds {
			pages[s.id.Slot()]++
		}
		if cu.Holds() > 0 && c.out.Blocked() {
			w.t.Fatalf("connection %v takes no bytes and has a page of %d records", s.id, cu.Holds())
		}
	}
	for slot, n := range pages {
		if n > 1 {
			w.t.Fatalf("the connection in slot %d has %d pages", slot, n)
		}
	}
}

// Members that ask for whole rooms and read nothing hold little memory beside the bytes that
// were written to them, however many rooms they ask for.
func TestCatchUpOfConnectionsThatDoNotRead(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	for _, r := range w.rooms {
		for range 30 {
			w.say(r, 20_000)
		}
	}
	var members []*peer
	for slot := range loop.ID(16) {
		c := w.enter(slot, JSON, proto.From{HasSince: true})
		c.takes, c.joined = 5000, make(map[string]uint64)
		for _, r := range w.rooms {
			w.hub.Join(c.id, r.name, proto.From{HasSince: true})
			c.joined[r.name.String()] = 0
		}
		members = append(members, c)
	}
	for range 100 {
		w.turn(1000)
		w.onePage()
		w.answer(1 + w.rand.IntN(100))
	}
	pages, queues := w.hub.cfg.Memory.Used(limit.Pages), w.hub.out.Held()
	if most := len(members) * 128 << 10; pages > 0 || queues == 0 || queues > most {
		t.Errorf("%d bytes of pages and %d of queues are held, want none and some, at most %d", pages, queues, most)
	}
	w.settle()
	for _, c := range members {
		w.verify(c)
		w.hub.Gone(c.id)
	}
	w.turn(1)
	w.noMemory()
}
