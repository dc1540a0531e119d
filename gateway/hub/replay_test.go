package hub

import (
	"bytes"
	"testing"

	"roomcast/proto"
)

// signalled returns how many signals a client has received.
func (w *world) signalled(c *peer) (n int) {
	list, _ := frames(w.t, c.got)
	for _, f := range list {
		if bytes.Contains(f, []byte(`"signal":`)) {
			n++
		}
	}
	return n
}

// The log does not contain signals, joins and leaves. A member must receive those that are
// delivered during its replay. Otherwise the member's list of the people in the room would stay
// wrong.
func TestSignalsDuringAReplayAreDelivered(t *testing.T) {
	for seed := range uint64(30) {
		cfg := testConfig()
		cfg.RoomBytes = 24 << 10
		w := newWorld(t, seed, cfg)
		r := w.rooms[0]
		sender := w.enter(1, JSON, proto.From{})
		w.settle()
		for range 80 {
			w.say(r, 3000)
			w.turn(100)
		}
		w.settle()
		c := w.enter(2, JSON, proto.From{Since: 20, HasSince: true})
		c.joined = map[string]uint64{r.name.String(): 20}
		w.turn(100) // answers the join
		before := w.signals
		for range 40 {
			if w.rand.IntN(2) == 0 {
				w.signal(r, sender)
			}
			if w.rand.IntN(3) == 0 {
				w.say(r, 3000)
			}
			w.give(c, w.rand.IntN(20_000))
			w.turn(1 + w.rand.IntN(10))
			w.answer(w.rand.IntN(2))
		}
		w.settle()
		w.verify(c)
		if got, want := w.signalled(c), w.signals-before; got != want {
			t.Errorf("seed %d: the member received %d signals during its replay, want %d", seed, got, want)
		}
	}
}

// A member falls behind the ring, which then drops signals that this member has not received. The
// member must receive them all the same.
func TestMemberThatFallsBehindReceivesSignals(t *testing.T) {
	cfg := testConfig()
	cfg.RoomBytes = 24 << 10
	w := newWorld(t, 1, cfg)
	r := w.rooms[0]
	sender, c := w.enter(1, JSON, proto.From{}), w.enter(2, JSON, proto.From{})
	c.joined = map[string]uint64{r.name.String(): fromHead}
	w.settle()
	c.takes = 0
	for range 40 {
		w.say(r, 3000)
		w.signal(r, sender)
		w.turn(100)
	}
	if w.hub.Stats().FellBehind.Load() == 0 {
		t.Fatal("the member did not fall behind")
	}
	w.settle()
	w.verify(c)
	if got := w.signalled(c); c.slow || got != w.signals {
		t.Errorf("the member received %d of %d signals, slow %v", got, w.signals, c.slow)
	}
}
