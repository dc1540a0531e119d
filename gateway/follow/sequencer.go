package follow

import (
	"slices"

	"roomcast/proto"
	"roomcast/proto/history"
)

// Bounds for the records of one room that wait behind a hole: their number, and the total length
// of their payloads in bytes. The sequencer drops further records, and the feed reads them from
// the log later.
const (
	maxHeld      = 256
	maxHeldBytes = 1 << 20
)

// sequencer decides what to deliver in one room. Records may arrive more than once and in any
// order, and some may not arrive. The sequencer delivers each record once and in order.
//
//	seq <= head.Seq      a repeat: dropped
//	seq == head.Seq + 1  delivered
//	otherwise            kept until the feed has filled the hole from the log
//
// The sequencer does not deliver a record of another epoch, nor a second, different record with
// the newest seq. After such a record the feed reads the log, to find out where to continue.
//
// A sequencer has no I/O and no clock. The feed of its room owns it.
type sequencer struct {
	head  history.Head // the newest record that was delivered
	held  []proto.Record
	reach uint64 // the highest seq that is known to exist in the epoch of head
	other bool   // a record has arrived that contradicts head
	ahead ahead  // the newest record of another epoch that has arrived
}

// ahead names the newest record of another epoch that has arrived.
type ahead struct {
	epoch string
	seq   uint64
}

// take accepts one record. It calls show, which delivers a record, for each record that is next
// in order.
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

// holds reports whether there is space for one more record behind the hole.
func (t *sequencer) holds(r proto.Record) bool {
	bytes := len(r.Payload)
	for i := range t.held {
		bytes += len(t.held[i].Payload)
	}
	return len(t.held) < maxHeld && bytes <= maxHeldBytes
}

// release delivers the kept records that are next in order.
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

// begin makes head the newest delivered record. Then it delivers the kept records that follow
// head.
func (t *sequencer) begin(head history.Head, show func(proto.Record)) {
	t.head = head
	held := t.held
	t.held, t.reach, t.other = nil, head.Seq, false
	for _, r := range held {
		t.take(r, show)
	}
}

// reached tells the sequencer that the feed has read the log up to head. Records of the same
// epoch with a higher seq may have arrived during the read.
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

// behind reports whether there are records that have not been delivered.
func (t *sequencer) behind() bool { return t.other || t.reach > t.head.Seq }
