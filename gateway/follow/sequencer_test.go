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
		var tail sequencer
		const first = 5
		tail.begin(history.Head{Seq: first, Epoch: "e1"}, func(proto.Record) { t.Fatal("shown at the beginning") })
		shown, heard := uint64(first), uint64(first)
		show := func(r proto.Record) {
			if r.Seq != shown+1 {
				t.Fatalf("shown %d after %d", r.Seq, shown)
			}
			shown = r.Seq
		}
		for _, b := range steps {
			switch {
			case b >= 250: // a page with two records
				tail.take(rec("e1", shown+1), show)
				tail.take(rec("e1", shown+1), show)
				heard = max(heard, shown)
			case b >= 240:
				tail.take(rec("e2", 1), show)
				if !tail.behind() {
					t.Fatal("another epoch was not noticed")
				}
				tail.reached(history.Head{Seq: shown, Epoch: "e1"})
			case b >= 235: // a different record with the newest seq
				r := rec("e1", shown)
				r.State.At = time.UnixMilli(int64(b))
				other := !tail.head.At.IsZero() && !tail.head.At.Equal(r.State.At)
				if tail.take(r, show); tail.other != other {
					t.Fatalf("another record under seq %d: noticed %v, want %v", shown, tail.other, other)
				}
				tail.reached(history.Head{Seq: shown, Epoch: "e1"})
			default:
				seq := max(1, shown+uint64(b)-3)
				heard = max(heard, seq)
				tail.take(rec("e1", seq), show)
			}
			if tail.head.Seq != shown || tail.behind() != (heard > shown) {
				t.Fatalf("head %d, behind %v; shown %d, heard of %d", tail.head.Seq, tail.behind(), shown, heard)
			}
			if len(tail.held) > maxHeld {
				t.Fatalf("%d records are held", len(tail.held))
			}
		}
	})
}

func TestBeginShowsHeldRecordsAfterTheHead(t *testing.T) {
	var shown []uint64
	show := func(r proto.Record) { shown = append(shown, r.Seq) }
	var tail sequencer
	for _, seq := range []uint64{9, 7, 8, 8, 11} {
		tail.hold(rec("e1", seq))
	}
	tail.begin(history.Head{Seq: 7, Epoch: "e1"}, show)
	if len(shown) != 2 || shown[0] != 8 || shown[1] != 9 || !tail.behind() {
		t.Errorf("shown %v, behind %v", shown, tail.behind())
	}
	tail.take(rec("e1", 10), show)
	if len(shown) != 4 || tail.behind() {
		t.Errorf("shown %v, behind %v", shown, tail.behind())
	}
}

// The sequencer drops records that exceed the bound in bytes, but remembers that they exist.
func TestHeldRecordsAreBoundedInBytes(t *testing.T) {
	var tail sequencer
	tail.begin(history.Head{Seq: 1, Epoch: "e1"}, nil)
	large := make([]byte, maxHeldBytes/4)
	for seq := uint64(3); seq < 20; seq++ {
		r := rec("e1", seq)
		r.Payload = large
		tail.take(r, func(proto.Record) { t.Fatalf("%d is shown before 2", seq) })
	}
	if len(tail.held) != 4 || tail.reach != 19 {
		t.Errorf("%d records are held, %d is known to exist; want 4, 19", len(tail.held), tail.reach)
	}
}

// A record of a new epoch that arrives during a read of the log causes another read.
func TestRecordOfANewEpochDuringAReadIsNotForgotten(t *testing.T) {
	var tail sequencer
	none := func(r proto.Record) { t.Errorf("shown %d", r.Seq) }
	tail.begin(history.Head{Seq: 7, Epoch: "e1"}, none)
	tail.take(rec("e2", 5), none)
	tail.take(rec("e2", 6), none) // the page does not contain this record
	tail.begin(history.Head{Seq: 5, Epoch: "e2"}, none)
	tail.reached(history.Head{Seq: 5, Epoch: "e2"})
	if !tail.behind() {
		t.Error("the sequencer is not behind although record 6 has arrived")
	}
}
