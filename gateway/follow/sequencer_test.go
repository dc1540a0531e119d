package follow

import (
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
)

func rec(epoch string, seq uint64) proto.Record {
	return proto.Record{Seq: seq, State: proto.State{Epoch: epoch, At: time.UnixMilli(1_000_000 + int64(seq))}}
}

// Each byte of the input is one step: a record with a seq near the head arrives, or the log
// returns a page. After any steps, the delivered seqs have no holes. If the sequencer is not
// behind, it has delivered all records that it knows.
func FuzzSequencer(f *testing.F) {
	f.Add([]byte{1, 1, 1})
	f.Add([]byte{3, 2, 1, 0, 9, 200, 1})
	f.Add([]byte{100, 101, 102, 255, 4})
	f.Add([]byte{4, 236, 4, 239, 241, 4})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var s sequencer
		const first = 5
		s.begin(history.Head{Seq: first, Epoch: "e1"}, func(proto.Record) { t.Fatal("delivered at the beginning") })
		delivered, newest := uint64(first), uint64(first)
		deliver := func(r proto.Record) {
			if r.Seq != delivered+1 {
				t.Fatalf("delivered %d after %d", r.Seq, delivered)
			}
			delivered = r.Seq
		}
		for _, b := range steps {
			switch {
			case b >= 250: // a page with two records
				s.take(rec("e1", delivered+1), deliver)
				s.take(rec("e1", delivered+1), deliver)
				newest = max(newest, delivered)
			case b >= 240:
				s.take(rec("e2", 1), deliver)
				if !s.behind() {
					t.Fatal("another epoch was not noticed")
				}
				s.reached(history.Head{Seq: delivered, Epoch: "e1"})
			case b >= 235: // a different record with the newest seq
				r := rec("e1", delivered)
				r.State.At = time.UnixMilli(int64(b))
				other := !s.head.At.IsZero() && !s.head.At.Equal(r.State.At)
				if s.take(r, deliver); s.other != other {
					t.Fatalf("another record with seq %d: noticed %v, want %v", delivered, s.other, other)
				}
				s.reached(history.Head{Seq: delivered, Epoch: "e1"})
			default:
				seq := max(1, delivered+uint64(b)-3)
				newest = max(newest, seq)
				s.take(rec("e1", seq), deliver)
			}
			if s.head.Seq != delivered || s.behind() != (newest > delivered) {
				t.Fatalf("head %d, behind %v; delivered %d, newest %d", s.head.Seq, s.behind(), delivered, newest)
			}
			if len(s.held) > maxHeld {
				t.Fatalf("%d records are held", len(s.held))
			}
		}
	})
}

func TestBeginShowsHeldRecordsAfterTheHead(t *testing.T) {
	var delivered []uint64
	deliver := func(r proto.Record) { delivered = append(delivered, r.Seq) }
	var s sequencer
	for _, seq := range []uint64{9, 7, 8, 8, 11} {
		s.hold(rec("e1", seq))
	}
	s.begin(history.Head{Seq: 7, Epoch: "e1"}, deliver)
	if len(delivered) != 2 || delivered[0] != 8 || delivered[1] != 9 || !s.behind() {
		t.Errorf("delivered %v, behind %v", delivered, s.behind())
	}
	s.take(rec("e1", 10), deliver)
	if len(delivered) != 4 || s.behind() {
		t.Errorf("delivered %v, behind %v", delivered, s.behind())
	}
}

// The sequencer drops records that exceed the bound in bytes, but remembers that they exist.
func TestHeldRecordsAreBoundedInBytes(t *testing.T) {
	var s sequencer
	s.begin(history.Head{Seq: 1, Epoch: "e1"}, nil)
	large := make([]byte, maxHeldBytes/4)
	for seq := uint64(3); seq < 20; seq++ {
		r := rec("e1", seq)
		r.Payload = large
		s.take(r, func(proto.Record) { t.Fatalf("%d is delivered before 2", seq) })
	}
	if len(s.held) != 4 || s.reach != 19 {
		t.Errorf("%d records are held, %d is known to exist; want 4, 19", len(s.held), s.reach)
	}
}

// A record of a new epoch that arrives during a read of the log causes another read.
func TestRecordOfANewEpochDuringAReadIsNotForgotten(t *testing.T) {
	var s sequencer
	none := func(r proto.Record) { t.Errorf("delivered %d", r.Seq) }
	s.begin(history.Head{Seq: 7, Epoch: "e1"}, none)
	s.take(rec("e2", 5), none)
	s.take(rec("e2", 6), none) // the page does not contain this record
	s.begin(history.Head{Seq: 5, Epoch: "e2"}, none)
	s.reached(history.Head{Seq: 5, Epoch: "e2"})
	if !s.behind() {
		t.Error("the sequencer is not behind although record 6 has arrived")
	}
}
