package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"roomcast/gateway/follow"
	"roomcast/proto"
)

// snapshot is a state of a room's log at an earlier time.
type snapshot struct {
	epoch  string
	events [][]byte
}

// renew removes the end of the room's log. Afterwards the log continues in the given epoch,
// which may be the same as before.
func (w *world) renew(r *modelRoom, lost int, epoch string) {
	survived := max(r.trimmed, len(r.events)-lost)
	r.events, r.renewed, r.epoch = slices.Clone(r.events[:survived]), r.epoch != epoch, epoch
	for i, b := range r.events {
		if e, _ := proto.ParseEvent(b); e.Epoch != "" {
			e.Epoch = epoch
			r.events[i] = e.AppendJSON(nil)
		}
	}
	w.now = w.now.Add(time.Minute)
	followed := r.followed
	r.followed = false
	w.say(r, 10)
	if r.followed = followed; !followed {
		return
	}
	gap := proto.Gap{Room: r.name, From: 1, Reason: proto.GapReset, Epoch: epoch, Seq: uint64(len(r.events))}
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, JSON: gap.AppendJSON(nil), Gap: &gap})
	for seq := r.trimmed + 1; seq <= len(r.events); seq++ {
		w.deliver(r, uint64(seq))
	}
}

// TestModelOfResets makes logs lose their ends, while clients of all kinds join, resume from any
// epoch, fall behind and leave. In the end each client must know the right epoch. Since its last
// reset, each must have received exactly the events of the log.
func TestModelOfResets(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cfg := testConfig()
			cfg.RoomBytes = 16 << 10
			cfg.InboxBytes = 24 << 10
			w := newWorld(t, 1000+seed, cfg)
			w.loses = true
			seen := make(map[*peer]map[string][][]byte) // by client and room: the events from before the client's replay
			old := make(map[*modelRoom][]snapshot)
			for range 500 {
				switch r := w.rooms[w.rand.IntN(len(w.rooms))]; w.rand.IntN(30) {
				case 0:
					if len(r.events) > r.trimmed {
						old[r] = append(old[r], snapshot{r.epoch, r.events})
						epoch := r.epoch
						if w.rand.IntN(3) > 0 {
							epoch = fmt.Sprintf("e%d", len(old[r]))
						}
						w.renew(r, 1+w.rand.IntN(20), epoch)
					}
				case 1, 2, 3, 4:
					w.resume(w.open(), r, append(old[r], snapshot{r.epoch, r.events}), seen)
				default:
					w.step()
				}
			}
			w.settle()
			for _, id := range slices.Sorted(maps.Keys(w.peers)) {
				if c := w.peers[id]; c.format == JSON && !c.closed {
					w.verifyHistory(c, seen[c])
				}
			}
		})
	}
}

// resume makes a client continue one of the earlier states of a room.
func (w *world) resume(c *peer, r *modelRoom, histories []snapshot, seen map[*peer]map[string][][]byte) {
	name := r.name.String()
	if _, before := c.joined[name]; before || c.closed {
		return
	}
	s := histories[w.rand.IntN(len(histories))]
	since := w.rand.IntN(len(s.events) + 1)
	if w.rand.IntN(2) == 0 {
		since = len(s.events)
	}
	from := proto.From{HasSince: true, Since: uint64(since), Epoch: s.epoch}
	if since > 0 {
		e, _ := proto.ParseEvent(s.events[since-1])
		from.At = e.At
	} else {
		from.Epoch = ""
	}
	c.joined[name], c.knows[name] = from.Since, from.Epoch
	if seen[c] == nil {
		seen[c] = make(map[string][][]byte)
	}
	seen[c][name] = s.events[:since]
	w.hub.Join(c.id, r.name, from)
}

// verifyHistory compares the events that a client has received with the rooms' logs.
func (w *world) verifyHistory(c *peer, begin map[string][][]byte) {
	type view struct {
		epoch  string
		events map[uint64][]byte
		last   uint64 // seq of the last event; anywhere = the next event may have any seq
		in     bool
	}
	rooms := make(map[string]*view)
	list, _ := frames(w.t, c.got)
	for _, f := range list {
		var m struct {
			OK *struct {
				Room, Epoch string
				Seq         uint64
			}
			Room  string
			Seq   uint64
			Epoch string
			Gap   *struct {
				From, To uint64
				Reason   proto.GapReason
				Epoch    string
			}
		}
		if err := json.Unmarshal(f, &m); err != nil {
			w.t.Fatal(err)
		}
		v := rooms[m.Room]
		switch {
		case m.OK != nil:
			v = &view{epoch: m.OK.Epoch, events: make(map[uint64][]byte), last: c.joined[m.OK.Room], in: true}
			if v.last == fromHead {
				v.last = m.OK.Seq
			}
			if s, ok := begin[m.OK.Room]; ok {
				for i, e := range s {
					v.events[uint64(i)+1] = e
				}
			}
			if v.last != anywhere && v.last > 0 && c.knows[m.OK.Room] != "" {
				v.epoch = c.knows[m.OK.Room] // valid until a reset changes it
			}
			rooms[m.OK.Room] = v
		case v == nil:
		case m.Gap != nil && m.Gap.Reason == proto.GapReset:
			v.epoch, v.events, v.last = m.Gap.Epoch, make(map[uint64][]byte), anywhere
		case m.Gap != nil:
			v.last = m.Gap.To
		case m.Seq > 0:
			if v.last != anywhere && m.Seq != v.last+1 {
				w.t.Fatalf("connection %v in %s: got seq %d after %d", c.id, m.Room, m.Seq, v.last)
			}
			v.last, v.events[m.Seq] = m.Seq, f
			if m.Epoch != "" {
				v.epoch = m.Epoch
			}
		}
	}
	for name, v := range rooms {
		r := w.room(proto.MustRoom(name))
		if c.left[name] {
			continue
		}
		for seq, e := range v.events {
			if seq <= uint64(r.trimmed) {
				continue // the client cannot know to which epoch the event belonged
			}
			if seq > uint64(len(r.events)) || !bytes.Equal(e, r.events[seq-1]) {
				w.t.Fatalf("connection %v in %s: seq %d of another history than the log's: %.60s", c.id, name, seq, e)
			}
		}
		if head := uint64(len(r.events)); v.last != anywhere && v.last != head {
			w.t.Errorf("connection %v in %s ends at %d, want %d", c.id, name, v.last, head)
		}
		if len(r.events) > 0 && v.last != anywhere && v.epoch != r.epoch {
			w.t.Errorf("connection %v in %s knows the epoch %q, want %q", c.id, name, v.epoch, r.epoch)
		}
	}
}
