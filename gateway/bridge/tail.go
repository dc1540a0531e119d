package bridge

import (
	"slices"

	"roomcast/proto"
	"roomcast/proto/history"
)

// Bounds of the records of one room that wait for a hole before them to be filled: their
// number, and the bytes of their payloads. What comes beyond is read from the log later.
const (
	maxHeld      = 256
	maxHeldBytes = 1 << 20
)

// tail is the delivery rule for one room: of what arrives, which may repeat, come in any
// order and lack any part, it shows every record once and in order.
//
//	seq <= head.Seq      a repeat: dropped
//	seq == head.Seq + 1  shown
//	otherwise            held until the log has filled the hole
//
// A record of another epoch, and another record under the newest seq, are not shown: the
// log is read, and it tells from where to show it anew.
//
// It is pure, and belongs to the feed of its room.
type tail struct {
	head  history.Head // what has been shown
	held  []proto.Record
	reach uint64 // the newest seq known to exist in this epoch
	other bool   // something of another history has arrived
	ahead ahead  // the newest record of another epoch that has arrived
}

// ahead is how far another epoch is known to have come.
type ahead struct {
	epoch string
	seq   uint64
}

// take takes in one record and calls show for each that is to be shown now.
func (t *tail) take(r proto.Record, show func(proto.Record)) {
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

func (t *tail) advance(r proto.Record, show func(proto.Record)) {
	if r.Kind == proto.Message {
		t.head.Seq, t.head.At, t.head.Stream, t.head.Closed = r.Seq, r.State.At, r.Stream, r.State.Closed
	} else {
		t.head = history.HeadOf(r)
	}
	show(r)
}

func (t *tail) hold(r proto.Record) {
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

// holds reports whether there is room to hold one more.
func (t *tail) holds(r proto.Record) bool {
	bytes := len(r.Payload)
	for i := range t.held {
		bytes += len(t.held[i].Payload)
	}
	return len(t.held) < maxHeld && bytes <= maxHeldBytes
}

// release shows what was held for the records that have been shown since.
func (t *tail) release(show func(proto.Record)) {
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

// begin sets what counts as shown. What was held and comes after it is shown.
func (t *tail) begin(head history.Head, show func(proto.Record)) {
	t.head = head
	held := t.held
	t.held, t.reach, t.other = nil, head.Seq, false
	for _, r := range held {
		t.take(r, show)
	}
}

// reached says that the log has been read up to head. It knows of nothing else, but for
// records of the same epoch that have arrived meanwhile.
func (t *tail) reached(head history.Head) {
	t.other = false
	if head.Epoch == t.head.Epoch {
		t.reach = max(t.reach, head.Seq)
	}
	if t.ahead.epoch == t.head.Epoch {
		t.reach = max(t.reach, t.ahead.seq)
	}
	t.ahead = ahead{}
}

// behind reports whether records are known to exist that have not been shown.
func (t *tail) behind() bool { return t.other || t.reach > t.head.Seq }
