package follow

import (
	"slices"

	"roomcast/proto"
	"roomcast/proto/history"
)

// Bounds of the records of one room that wait behind a hole: their number, and the bytes of
// their payloads. The sequencer drops more, and the feed reads those from the log.
const (
	maxHeld      = 256
	maxHeldBytes = 1 << 20
)

// sequencer is the delivery rule for one room. Records may arrive repeatedly and in any order,
// and some may be missing. The sequencer shows each record once and in order.
//
//	seq <= head.Seq      a repeat: dropped
//	seq == head.Seq + 1  shown
//	otherwise            held until the feed has filled the hole from the log
//
// It does not show a record of another epoch, or a different record with the newest seq. In
// these cases the feed reads the log, which shows where to continue.
//
// It is pure, and belongs to the feed of its room.
type sequencer struct {
	head  history.Head // the newest record that was shown
	held  []proto.Record
	reach uint64 // the highest seq that is known to exist in this epoch
	other bool   // a record has arrived that contradicts head
	ahead ahead  // the newest arrived record of another epoch
}

// ahead names the newest known record of another epoch.
type ahead struct {
	epoch string
	seq   uint64
}

// take accepts one record and calls show for each record that is in order now.
func (t *sequencer) take(r proto.Record, show func(proto.Record)) {
	if t.head.Seq == 0 && r.Seq == 1 {
		t.head.Epoch = r.State.Epoch
	}
	if t.head.Epoch != "" && r.State.Epoch != t.head.Epoch {
		t.other, t.ahead = true, ahead{r.State.Epoch, r.Seq}
		return
	}
	t.reach = max(t.reach, r.Seq)
	switch {
	case r.Seq == t.head.Seq && t.head.Differs(history.Head{At: r.State.At, Stream: r.Stream}):
		t.other = true
	case r.Seq <= t.head.Seq:
	case r.Seq == t.head.Seq+1:
		t.advance(r, show)
		t.release(show)
	default:
		t.hold(r)
	}
}

func (t *sequencer) advance(r proto.Record, show func(proto.Record)) {
	if r.Kind == proto.Message {
		t.head.Seq, t.head.At, t.head.Stream, t.head.Closed = r.Seq, r.State.At, r.Stream, r.State.Closed
	} else {
		limits := t.head.Limits
		if e, err := proto.ParseEvent(r.Payload); err == nil {
			limits = limits.After(&e, r.State.Epoch)
		}
		t.head = history.HeadOf(r)
		t.head.Limits = limits
	}
	show(r)
}

func (t *sequencer) hold(r proto.Record) {
	i, found := slices.BinarySearchFunc(t.held, r.Seq, func(h proto.Record, seq uint64) int {
		if h.Seq < seq {
			return -1
		}
		return min(1, int(h.Seq-seq))
	})
	if !found && t.holds(r) {
		t.held = slices.Insert(t.held, i, r)
	}
}

// holds reports whether one more record fits.
func (t *sequencer) holds(r proto.Record) bool {
	bytes := len(r.Payload)
	for i := range t.held {
		bytes += len(t.held[i].Payload)
	}
	return len(t.held) < maxHeld && bytes <= maxHeldBytes
}

// release shows the held records that are in order now.
func (t *sequencer) release(show func(proto.Record)) {
	n := 0
	for n < len(t.held) && t.held[n].Seq <= t.head.Seq+1 {
		if r := t.held[n]; r.Seq == t.head.Seq+1 {
			t.advance(r, show)
		}
		n++
	}
	if n > 0 {
		t.held = slices.Delete(t.held, 0, n)
	}
	if len(t.held) == 0 {
		t.held = nil
	}
}

// begin sets the newest record that counts as shown, and shows the held records after it.
func (t *sequencer) begin(head history.Head, show func(proto.Record)) {
	t.head = head
	held := t.held
	t.held, t.reach, t.other = nil, head.Seq, false
	for _, r := range held {
		t.take(r, show)
	}
}

// reached records that the feed has read the log up to head. Records that arrived meanwhile may
// have a higher seq in the same epoch.
func (t *sequencer) reached(head history.Head) {
	t.other = false
	if head.Epoch == t.head.Epoch {
		t.reach = max(t.reach, head.Seq)
	}
	if t.ahead.epoch == t.head.Epoch {
		t.reach = max(t.reach, t.ahead.seq)
	}
	t.ahead = ahead{}
}

// behind reports whether records exist that have not been shown.
func (t *sequencer) behind() bool { return t.other || t.reach > t.head.Seq }
