package hub

import (
	"testing"

	"roomcast/gateway/follow"
	"roomcast/proto"
)

// The delivery of a reset was dropped. A later event of the new epoch fits into the inbox. Members
// must leave before they receive this event, although the seq of the event is the next one.
func TestNoEventIsSentAfterADroppedReset(t *testing.T) {
	cfg := testConfig()
	cfg.InboxBytes = 1 << 10
	w := newWorld(t, 1, cfg)
	w.loses = true
	r := w.rooms[0]
	w.say(r, 10)
	c := w.enter(1, JSON, proto.From{})
	w.settle()
	before := len(c.got)
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, JSON: make([]byte, 600)}) // a signal that fills half of the inbox
	gap := proto.Gap{Room: r.name, From: 2, Reason: proto.GapReset, Epoch: "f"}
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, Gap: &gap, JSON: make([]byte, 600)})
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, Seq: 2, Epoch: "f", JSON: []byte(`{"seq":2}`)})
	w.settle()
	list, _ := frames(t, c.got[before:])
	for _, f := range list {
		if string(f) == `{"seq":2}` {
			t.Error("the event is shown before its reset")
		}
	}
	if !c.slow {
		t.Error("the member stays")
	}
}
