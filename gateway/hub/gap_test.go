package hub

import (
	"testing"

	"roomcast/gateway/follow"
	"roomcast/gateway/loop"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// enter makes a client join the first room. The client reads all bytes.
func (w *world) enter(slot loop.ID, format Format, from proto.From) *peer {
	c := &peer{id: 1<<32 | slot, format: format, takes: 1 << 30}
	w.peers[c.id] = c
	w.hub.Open(c.id, format)
	w.hub.Join(c.id, w.rooms[0].name, from)
	return c
}

// A text session cannot receive a gap, so the hub closes it. The gap may be delivered, or found
// in the log.
func TestGapClosesTextSessions(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	r := w.rooms[0]
	text, json := w.enter(1, Text, proto.From{}), w.enter(2, JSON, proto.From{})
	w.settle()
	w.say(r, 10)
	w.settle()
	gap := proto.Gap{Room: r.name, From: 2, To: 40, Reason: proto.GapTrimmed}
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, JSON: gap.AppendJSON(nil), Gap: &gap})
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, Seq: 41, Epoch: "e", Stamp: "T", JSON: r.events[0], Text: spanOf(r.events[0])})
	w.settle()
	if list, _ := frames(t, text.got); !text.slow || len(list) != 2 { // the answer to the join, and the message before the gap
		t.Errorf("the text session goes on after a gap: got %q", list)
	}
	if list, _ := frames(t, json.got); json.slow || len(list) != 4 || string(list[2]) != string(gap.AppendJSON(nil)) {
		t.Errorf("the JSON session got %q", list)
	}
}

// emptied is a log in which all records of the rooms have aged out.
type emptied struct{ *world }

func (e emptied) Read(q history.Query, done func(reads.Page, error)) {
	e.later = append(e.later, func() { done(reads.Page{}, nil) })
}

// All records of a room have aged out of the log while the room has members. A new member must
// not wait for a read that returns nothing.
func TestJoinOfARoomThatAgedOutDoesNotWaitForTheLog(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	r := w.rooms[0]
	w.say(r, 10)
	w.enter(1, JSON, proto.From{})
	w.settle()
	w.hub.rooms.log, w.hub.catchups.log = emptied{w}, emptied{w}
	gap := proto.Gap{Room: r.name, From: 2, Reason: proto.GapReset}
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, JSON: gap.AppendJSON(nil), Gap: &gap})
	w.settle()
	late := w.enter(2, JSON, proto.From{Last: 1})
	w.settle()
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, Seq: 1, Epoch: "f", JSON: r.events[0]})
	w.settle()
	if list, _ := frames(t, late.got); late.slow || len(list) != 2 || string(list[1]) != string(r.events[0]) {
		t.Errorf("got %q and lost %v, want the ok and the event", list, late.slow)
	}
}

// Dropped deliveries may belong to another epoch. Then no seq says where to continue, so the
// members must reconnect and resume.
func TestDroppedResetEndsSessions(t *testing.T) {
	cfg := testConfig()
	cfg.InboxBytes = 1 << 10
	for name, lost := range map[string][]follow.Delivery{
		"a gap":         {{Gap: &proto.Gap{From: 2, Reason: proto.GapReset}, JSON: []byte("{}")}},
		"another epoch": {{Seq: 1, Epoch: "f", JSON: []byte("{}")}},
		"two epochs":    {{Seq: 2, Epoch: "e", JSON: []byte("{}")}, {Seq: 1, Epoch: "f", JSON: []byte("{}")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, cfg)
			w.loses = true
			r := w.rooms[0]
			w.say(r, 10)
			members := []*peer{w.enter(1, Text, proto.From{}), w.enter(2, JSON, proto.From{})}
			w.settle()
			w.hub.intake.Deliver(follow.Delivery{Room: r.name, JSON: make([]byte, 850)}) // a signal that fills the inbox
			for _, d := range lost {
				d.Room = r.name
				w.hub.intake.Deliver(d)
			}
			w.settle()
			if got := w.hub.Stats().InboxDrops.Load(); got != uint64(len(lost)) {
				t.Fatalf("%d deliveries were dropped, want %d", got, len(lost))
			}
			for _, c := range members {
				if !c.slow {
					t.Errorf("connection %v is still open", c.id)
				}
			}
		})
	}
}

// An event is delivered after a page was read and before the page arrives. A client that has
// received all records of the page from another gateway must receive the event.
func TestEventDeliveredDuringAReadReachesTheMember(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	r := w.rooms[0]
	w.enter(1, JSON, proto.From{})
	w.say(r, 10)
	w.settle()
	second := proto.Event{Room: r.name, Seq: 2, At: w.now, From: proto.Identity{ID: "x"}, Content: proto.Content{Kind: proto.Text, Body: []byte("two")}}
	r.events = append(r.events, second.AppendJSON(nil)) // this event is not delivered here yet
	w.early = true
	for name, from := range map[string]proto.From{"since": {HasSince: true, Since: 2, Epoch: "e"}, "after": {After: w.now}} {
		c := w.enter(loop.ID(len(w.peers)+1), JSON, from)
		w.turn(100) // the hub requests the page
		defer func() {
			list, _ := frames(t, c.got)
			if n := len(list); n < 2 || string(list[n-1]) != string(r.events[2]) || name == "since" && n != 2 {
				t.Errorf("%s: it was shown %q, want the third event", name, list)
			}
		}()
	}
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, Seq: 2, Epoch: "e", Stamp: "T", JSON: r.events[1], Text: spanOf(r.events[1])})
	w.say(r, 10)
	w.turn(100)
	w.settle()
}

// Between a join and the answer to it, the hub may write to the connection for another room. The
// new member must still receive the events after the head that the answer contains.
func TestJoinIsAnsweredBeforeTheLogIsRead(t *testing.T) {
	w := newWorld(t, 1, testConfig())
	r := w.rooms[0]
	w.say(r, 10)
	w.enter(1, JSON, proto.From{})
	w.settle()
	c := &peer{id: 1<<32 | 2, format: JSON, takes: 1 << 30, joined: map[string]uint64{r.name.String(): fromHead}}
	w.peers[c.id] = c
	w.hub.Open(c.id, c.format)
	w.hub.Join(c.id, r.name, proto.From{})
	w.hub.catchups.schedule(w.hub.conns.live(c.id))
	w.hub.pump(w.hub.conns.live(c.id))
	w.turn(10)
	w.say(r, 10)
	w.say(r, 10)
	w.settle()
	w.verify(c)
}
