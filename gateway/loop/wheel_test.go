package loop

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// dues is a handler that records the connections for which Due was called.
type dues struct{ ids []ID }

func (d *dues) Opened(ID, netip.AddrPort) {}
func (d *dues) Received(ID, []byte) int   { return 0 }
func (d *dues) Writable(ID)               {}
func (d *dues) Due(id ID)                 { d.ids = append(d.ids, id) }
func (d *dues) Gone(ID, error)            {}
func (d *dues) Turn() bool                { return false }

// TestWheelAgainstModel sets and moves deadlines at random. It compares the calls of Due with a
// plain list of deadlines.
func TestWheelAgainstModel(t *testing.T) {
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		h := &dues{}
		l := &Loop{handler: h}
		l.start = time.Unix(1000, 0)
		l.now = l.start
		deadlines := map[ID]time.Duration{}
		var ids []ID
		for range 50 {
			id, _ := l.conns.alloc()
			ids = append(ids, id)
		}
		for step := range 2000 {
			id := ids[rnd.IntN(len(ids))]
			switch rnd.IntN(10) {
			case 0, 1, 2, 3, 4, 5:
				at := l.Elapsed() + time.Duration(rnd.Int64N(int64(300*time.Second))) - time.Second
				l.wheel.set(&l.conns, id.Slot(), at)
				deadlines[id] = at
			case 6: // another connection reuses the slot
				l.wheel.remove(&l.conns, id.Slot())
				l.conns.free(id.Slot())
				delete(deadlines, id)
				for i := range ids {
					if ids[i] == id {
						ids[i], _ = l.conns.alloc()
					}
				}
			default:
				pass := time.Duration(rnd.Int64N(int64(10 * time.Second)))
				if rnd.IntN(20) == 0 {
					pass *= 100 // farther than the wheel reaches
				}
				if wait := l.wheel.next(l.Elapsed()); wait >= 0 && rnd.IntN(2) == 0 {
					pass = wait // as a loop sleeps
				}
				l.now = l.now.Add(pass)
				l.wheel.advance(l)
				for _, id := range h.ids {
					if at, ok := deadlines[id]; !ok || at > l.Elapsed() {
						t.Fatalf("seed %d step %d: came due %v before its time", seed, step, at-l.Elapsed())
					}
					delete(deadlines, id)
				}
				h.ids = nil
				for _, at := range deadlines {
					if late := l.Elapsed() - at; late > tick {
						t.Fatalf("seed %d step %d: late by %v", seed, step, late)
					}
				}
			}
			if len(deadlines) > 0 && l.wheel.next(l.Elapsed()) < 0 {
				t.Fatalf("seed %d step %d: the loop would sleep for ever", seed, step)
			}
		}
	}
}

func TestSlabReusesSlotsUnderNewIDs(t *testing.T) {
	var s slab
	var ids []ID
	for range chunkSize + 10 {
		id, _ := s.alloc()
		ids = append(ids, id)
	}
	for i, id := range ids {
		if int(id.Slot()) != i || s.get(id) == nil || id == 0 {
			t.Fatalf("connection %d: got ID %x", i, id)
		}
	}
	s.free(7)
	if s.get(ids[7]) != nil || s.get(0) != nil || s.get(1<<31) != nil {
		t.Fatal("got a connection that does not exist")
	}
	again, c := s.alloc()
	if again.Slot() != 7 || again == ids[7] || s.get(again) != c {
		t.Fatalf("got ID %x after %x", again, ids[7])
	}
	open := 0
	s.each(func(ID, *conn) { open++ })
	if open != len(ids) {
		t.Fatalf("got %d open, want %d", open, len(ids))
	}
}
