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
// The sequencer does not deliver a record that contradicts head: a record of another epoch, or a
// different record with the seq of head. After such a record, the feed reads the log to find out
// where to continue.
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

// take accepts one record. It calls deliver for each record that is next in order.
func (s *sequencer) take(r proto.Record, deliver func(proto.Record)) {
	if s.head.Seq == 0 && r.Seq == 1 {
		s.head.Epoch = r.State.Epoch
	}
	if s.head.Epoch != "" && r.State.Epoch != s.head.Epoch {
		s.other, s.ahead = true, ahead{r.State.Epoch, r.Seq}
		return
	}
	s.reach = max(s.reach, r.Seq)
	switch {
	case r.Seq == s.head.Seq && s.head.Differs(history.Head{At: r.State.At, Stream: r.Stream}):
		s.other = true
	case r.Seq <= s.head.Seq:
	case r.Seq == s.head.Seq+1:
		s.advance(r, deliver)
		s.release(deliver)
	default:
		s.hold(r)
	}
}

func (s *sequencer) advance(r proto.Record, deliver func(proto.Record)) {
	if r.Kind == proto.Message {
		s.head.Seq, s.head.At, s.head.Stream, s.head.Closed = r.Seq, r.State.At, r.Stream, r.State.Closed
	} else {
		limits := s.head.Limits
		if e, err := proto.ParseEvent(r.Payload); err == nil {
			limits = limits.After(&e, r.State.Epoch)
		}
		s.head = history.HeadOf(r)
		s.head.Limits = limits
	}
	deliver(r)
}

func (s *sequencer) hold(r proto.Record) {
	i, found := slices.BinarySearchFunc(s.held, r.Seq, func(h proto.Record, seq uint64) int {
		if h.Seq < seq {
			return -1
		}
		return min(1, int(h.Seq-seq))
	})
	if !found && s.hasSpace(r) {
		s.held = slices.Insert(s.held, i, r)
	}
}

// hasSpace reports whether there is space for one more record behind the hole.
func (s *sequencer) hasSpace(r proto.Record) bool {
	bytes := len(r.Payload)
	for i := range s.held {
		bytes += len(s.held[i].Payload)
	}
	return len(s.held) < maxHeld && bytes <= maxHeldBytes
}

// release delivers the kept records that are next in order.
func (s *sequencer) release(deliver func(proto.Record)) {
	n := 0
	for n < len(s.held) && s.held[n].Seq <= s.head.Seq+1 {
		if r := s.held[n]; r.Seq == s.head.Seq+1 {
			s.advance(r, deliver)
		}
		n++
	}
	if n > 0 {
		s.held = slices.Delete(s.held, 0, n)
	}
	if len(s.held) == 0 {
		s.held = nil
	}
}

// begin makes head the newest delivered record. Then it delivers the kept records that follow
// head.
func (s *sequencer) begin(head history.Head, deliver func(proto.Record)) {
	s.head = head
	held := s.held
	s.held, s.reach, s.other = nil, head.Seq, false
	for _, r := range held {
		s.take(r, deliver)
	}
}

// reached tells the sequencer that the feed has read the log up to head. Records of the same
// epoch with a higher seq may have arrived during the read.
func (s *sequencer) reached(head history.Head) {
	s.other = false
	if head.Epoch == s.head.Epoch {
		s.reach = max(s.reach, head.Seq)
	}
	if s.ahead.epoch == s.head.Epoch {
		s.reach = max(s.reach, s.ahead.seq)
	}
	s.ahead = ahead{}
}

// behind reports whether there are records that have not been delivered.
func (s *sequencer) behind() bool { return s.other || s.reach > s.head.Seq }
