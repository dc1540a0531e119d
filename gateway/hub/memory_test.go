package hub

import (
	"testing"

	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/proto"
)

// noMemory fails the test unless the hub has given all its bytes back to the memory budget.
func (w *world) noMemory() {
	w.t.Helper()
	w.hub.fanout.held.Settle()
	w.hub.out.Settle()
	for _, use := range limit.Uses() {
		if n := w.hub.cfg.Memory.Used(use); n != 0 {
			w.t.Errorf("%s: the hub holds %d bytes and needs none", use, n)
		}
	}
}

// onePage fails the test if a connection has more than one page. It also fails if a connection
// whose socket accepts no bytes has a page.
func (w *world) onePage() {
	w.t.Helper()
	pages := make(map[uint32]int)
	for s, cu := range w.hub.catchups.members {
		c := w.hub.conns.at(s.id.Slot())
		if cu.holds != (c.flags&holding != 0) && cu.holds {
			w.t.Fatalf("connection %v does not know that one of its rooms has a page", s.id)
		}
		if cu.holds {
			pages[s.id.Slot()]++
		}
		if cu.Holds() > 0 && c.out.Blocked() {
			w.t.Fatalf("connection %v accepts no bytes and has a page of %d records", s.id, cu.Holds())
		}
	}
	for slot, n := range pages {
		if n > 1 {
			w.t.Fatalf("the connection in slot %d has %d pages", slot, n)
		}
	}
}

// The clients of these connections request the history of whole rooms and read nothing. The hub
// needs little memory for them, however many rooms they request.
func TestConnectionsThatDoNotReadNeedLittleMemory(t *testing.T) {
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
