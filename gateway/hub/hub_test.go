package hub

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Name, cfg.Log = "g", quietLog()
	cfg.Formats = []FormatConfig{Text: {Codec: wire.Text{}}, JSON: {Codec: wire.JSON{}, Full: true}}
	return cfg
}

// The formats of the tests.
const (
	Text Format = iota
	JSON
)

// TestModel makes clients of all kinds act at random, with small limits. Then it compares the
// bytes that each client has received with the events of the rooms. The hub may write only
// during Flush and Writable.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cfg := testConfig()
			cfg.RoomBytes = 24 << 10
			cfg.InboxBytes = 24 << 10
			w := newWorld(t, seed, cfg)
			for range 600 {
				w.step()
				w.onePage()
			}
			w.settle()
			for _, id := range slices.Sorted(maps.Keys(w.peers)) {
				w.verify(w.peers[id])
			}
			for _, c := range w.dead {
				frames(t, cutAtFrame(c.got))
			}
			for id := range w.peers {
				w.hub.Gone(id)
				delete(w.peers, id)
			}
			w.settle()
			w.noMemory()
			if len(w.hub.rooms.byName) != 0 || len(w.hub.catchups.members) != 0 || w.hub.out.InUse() != 0 {
				t.Errorf("left behind: %d rooms, %d catch-ups, %d queues", len(w.hub.rooms.byName), len(w.hub.catchups.members), w.hub.out.InUse())
			}
		})
	}
}

// cutAtFrame drops an incomplete frame at the end, which a broken connection may leave.
func cutAtFrame(b []byte) []byte {
	i := 0
	for i+2 <= len(b) {
		n, h := int(b[i+1]), 2
		if n == 126 {
			if i+4 > len(b) {
				break
			}
			n, h = int(b[i+2])<<8|int(b[i+3]), 4
		}
		if i+h+n > len(b) {
			break
		}
		i += h + n
	}
	return b[:i]
}

// step performs a random action.
func (w *world) step() {
	any := func() *peer {
		ids := slices.Sorted(maps.Keys(w.peers))
		if len(ids) == 0 {
			return nil
		}
		return w.peers[ids[w.rand.IntN(len(ids))]]
	}
	r := w.rooms[w.rand.IntN(len(w.rooms))]
	switch k := w.rand.IntN(100); {
	case k < 8:
		w.open()
	case k < 20:
		if c := any(); c != nil && !c.closed {
			w.join(c, r)
		}
	case k < 22:
		if c := any(); c != nil && w.hub.In(c.id, r.name) {
			c.left[r.name.String()] = true
			w.hub.Leave(c.id, r.name)
		}
	case k < 27:
		if c := any(); c != nil && !c.closed {
			w.hub.Text(c.id, fmt.Appendf(nil, `{"private":%d}`, c.private))
			c.private++
		}
	case k < 30:
		if c := any(); c != nil {
			w.signal(r, c)
		}
	case k < 50:
		size := w.rand.IntN(200)
		if w.rand.IntN(20) == 0 {
			size = w.rand.IntN(8 << 10)
		}
		for range 1 + w.rand.IntN(6) {
			w.say(r, size)
		}
	case k < 52:
		r.trimmed = max(r.trimmed, len(r.events)-w.rand.IntN(100))
	case k < 60:
		w.answer(1 + w.rand.IntN(4))
	case k < 75:
		w.turn(1 + w.rand.IntN(20))
	case k < 95:
		if c := any(); c != nil {
			w.give(c, w.rand.IntN(3000))
		}
	case k < 97:
		if c := any(); c != nil {
			w.close(c)
		}
	case k < 98:
		if c := any(); c != nil {
			w.hub.Gone(c.id)
			delete(w.peers, c.id)
			w.dead = append(w.dead, c)
		}
	default:
		w.now = w.now.Add(5e9)
	}
}

func (w *world) open() *peer {
	w.next++
	slot := w.next % 40 // each slot is used again
	for id := range w.peers {
		if id.Slot() == uint32(slot) {
			return w.peers[id]
		}
	}
	c := &peer{id: w.next<<32 | slot, format: []Format{Text, JSON, JSON}[w.rand.IntN(3)], takes: w.rand.IntN(5000),
		joined: make(map[string]uint64), knows: make(map[string]string), left: make(map[string]bool)}
	w.peers[c.id] = c
	w.hub.Open(c.id, c.format)
	return c
}

// join makes the client join a room.
func (w *world) join(c *peer, r *modelRoom) {
	name := r.name.String()
	if _, before := c.joined[name]; before {
		return
	}
	var from proto.From
	c.joined[name] = anywhere
	switch w.rand.IntN(3) {
	case 0:
		from = proto.From{HasSince: true, Since: uint64(w.rand.IntN(len(r.events) + 1)), Epoch: "e"}
		c.joined[name], c.knows[name] = from.Since, from.Epoch
	case 1:
		from.Last = 1 + w.rand.IntN(200)
	default:
		c.joined[name] = fromHead
	}
	w.hub.Join(c.id, r.name, from)
}

// A connection in many rooms receives whole frames, even if its socket accepts only a few bytes
// at a time.
func TestFramesNeverMix(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	c := w.open()
	for _, r := range w.rooms {
		w.hub.Join(c.id, r.name, proto.From{})
		c.joined[r.name.String()] = anywhere
	}
	w.answer(4)
	w.turn(100)
	for i := range 2000 {
		w.say(w.rooms[i%4], i%300)
		w.turn(5)
		w.give(c, i%97)
		if i%7 == 0 {
			w.hub.Text(c.id, fmt.Appendf(nil, `{"private":%d}`, c.private))
			c.private++
		}
	}
	w.settle()
	w.verify(c)
}

// crowd opens n connections in a room. Their sockets accept all bytes.
func (w *world) crowd(n int, r *modelRoom) (members []*peer) {
	for range n {
		slot := loop.ID(len(w.peers))
		c := &peer{id: 1<<32 | slot, format: Text, takes: 1 << 30, joined: map[string]uint64{r.name.String(): anywhere}}
		w.peers[c.id] = c
		w.hub.Open(c.id, Text)
		w.hub.Join(c.id, r.name, proto.From{})
		members = append(members, c)
	}
	return members
}

// The hub writes a message for a small room in the iteration in which the message arrives, even
// during a long pass over a big room.
func TestSmallRoomDoesNotWaitForBig(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	crowd := w.crowd(1000, w.rooms[0])
	small := w.crowd(1, w.rooms[1])[0]
	w.answer(2)
	w.settle()
	last := crowd[len(crowd)-1]
	before, lastBefore := len(small.got), len(last.got)
	w.say(w.rooms[0], 100)
	w.turn(2 * slice)
	w.say(w.rooms[1], 100)
	w.turn(2 * slice)
	if len(small.got) == before {
		t.Errorf("a message for one member waits for a pass over %d members", len(crowd))
	}
	if len(last.got) > lastBefore {
		t.Error("the big pass was over already, so the test shows nothing")
	}
	w.settle()
	w.verify(small)
}

// A big pass may take several iterations. Members that only wait for their turn do not fall
// behind.
func TestMemberThatWaitsForItsTurnIsNotSlow(t *testing.T) {
	cfg := testConfig()
	cfg.RoomBytes = 16 << 10
	w := newWorld(t, 1, cfg)
	w.crowd(500, w.rooms[0])
	w.answer(1)
	for range 10 {
		w.turn(1000)
	}
	for range 200 {
		w.say(w.rooms[0], 1000)
		w.turn(10)
	}
	w.settle()
	for _, c := range w.peers {
		if c.slow {
			t.Fatalf("connection %v was closed as slow", c.id)
		}
		w.verify(c)
	}
}

func TestIdleRoomHoldsNoBuffer(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	c := w.open()
	w.hub.Join(c.id, w.rooms[0].name, proto.From{})
	w.answer(1)
	w.turn(10)
	for range 100 {
		w.say(w.rooms[0], 100)
	}
	w.settle()
	if w.hub.fanout.held.Held() == 0 {
		t.Error("got no bytes held right after traffic, want some for clients that resume")
	}
	w.now = w.now.Add(w.hub.cfg.Quiet * 2)
	w.turn(10)
	w.noMemory()
	w.say(w.rooms[0], 10)
	w.settle()
	w.verify(c)
}
