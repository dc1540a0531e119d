package hub

import (
	"strings"
	"testing"
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/loop"
	"roomcast/proto"
)

// A client has received the close of a room from another gateway. Then it joins on this gateway,
// to which the close has not been delivered yet. The client must join again, and must not stay
// in the room.
func TestClientThatKnowsOfACloseBeforeTheGatewayMustJoinAgain(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	r := w.rooms[0]
	enter := func(slot loop.ID, from proto.From) *peer {
		c := &peer{id: 1<<32 | slot, format: Text, takes: 1 << 30}
		w.peers[c.id] = c
		w.hub.Open(c.id, Text)
		w.hub.Join(c.id, r.name, from)
		return c
	}
	enter(1, proto.From{})
	w.say(r, 10)
	w.settle()

	closing := proto.Event{Room: r.name, Seq: 2, At: time.Unix(1, 0), Kind: proto.Closed, From: proto.Identity{ID: "api"}}
	r.events = append(r.events, closing.AppendJSON(nil)) // the close is in the log, but not delivered here yet
	c := enter(2, proto.From{HasSince: true, Since: 2, Epoch: "e"})
	for range 20 {
		w.turn(100)
		w.answer(len(w.later))
	}
	if !w.hub.In(c.id, r.name) || c.slow {
		t.Fatal("the client has not joined")
	}
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, Seq: 2, Epoch: "e", Kind: proto.Closed, JSON: r.events[1]})
	w.settle()
	if !c.slow {
		t.Error("the client was not told to join again")
	}
}

// The event that closes a room does not fit into the inbox. The room must still close for its
// members.
func TestDroppedCloseClosesTheRoom(t *testing.T) {
	cfg := testConfig()
	cfg.InboxBytes = 1 << 10
	w := newWorld(t, 1, cfg)
	r := w.rooms[0]
	members := []*peer{w.enter(1, Text, proto.From{}), w.enter(2, JSON, proto.From{})}
	w.settle()
	w.say(r, 700)
	closing := proto.Event{Room: r.name, Seq: 2, At: w.now, Kind: proto.Closed, From: proto.Identity{ID: "api"}, Why: "enough for today, which is long"}
	r.events = append(r.events, closing.AppendJSON(nil))
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, Seq: 2, Epoch: "e", Kind: proto.Closed, JSON: r.events[1]})
	w.settle()
	if w.hub.Stats().InboxDrops.Load() == 0 {
		t.Fatal("no delivery was dropped")
	}
	for _, c := range members {
		if c.shut != closing.Why {
			t.Errorf("connection %v was told %q, want the close of the room", c.id, c.shut)
		}
	}
}

// If a room is closed after a member's join, the close is the last event that the member
// receives. This is so even if the event comes from the log and the room is open again.
func TestNoEventIsSentAfterTheClose(t *testing.T) {
	for name, quiet := range map[string]bool{"in the ring": false, "in the log": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, testConfig())
			r := w.rooms[0]
			w.enter(1, JSON, proto.From{})
			w.say(r, 10)
			w.say(r, 10)
			w.settle()
			act := func(kind proto.EventKind, why string) {
				e := proto.Event{Room: r.name, Seq: uint64(len(r.events)) + 1, At: w.now, Kind: kind, From: proto.Identity{ID: "api"}, Why: why}
				r.events = append(r.events, e.AppendJSON(nil))
				w.hub.intake.Deliver(follow.Delivery{Room: r.name, Seq: e.Seq, Epoch: "e", Kind: kind, JSON: r.events[e.Seq-1]})
			}
			c := w.enter(2, JSON, proto.From{HasSince: true, Since: 1, Epoch: "e"})
			c.takes = 0 // it reads nothing until all events have been delivered
			w.turn(100)
			act(proto.Closed, "enough")
			act(proto.Reopened, "")
			w.say(r, 10)
			w.turn(100)
			if quiet { // wait until the ring is empty
				w.now = w.now.Add(2 * w.hub.cfg.Quiet)
				w.turn(100)
			}
			w.settle()
			list, _ := frames(t, c.got)
			if n := len(list); n == 0 || !strings.Contains(string(list[n-1]), `"kind":"closed"`) || c.shut != "enough" {
				t.Errorf("the member was shown %q and told %q, want the close as the last event", list, c.shut)
			}
		})
	}
}
