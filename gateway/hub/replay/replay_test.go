package replay

import (
	"errors"
	"testing"

	"roomcast/gateway/hub/ring"
	"roomcast/proto"
	"roomcast/proto/history"
)

// newRing returns a ring that contains the events from first to last.
func newRing(first, last uint64) *ring.Log {
	r := new(ring.Log)
	for seq := first; seq <= last; seq++ {
		r.Append(ring.Frame{Seq: seq}, func(b []byte) []byte { return append(b, "event"...) })
	}
	return r
}

// page returns a page of the log with the records from first to last, and the given head.
func page(first, last, head uint64) *history.Page {
	p := &history.Page{Head: history.Head{Seq: head, Epoch: "e"}}
	for seq := first; seq <= last; seq++ {
		p.Records = append(p.Records, proto.Record{Seq: seq})
	}
	return p
}

// A member that resumes first receives events from the log. Then it continues in the ring,
// without a missing or repeated event.
func TestReplayEndsWhereTheRingBegins(t *testing.T) {
	room := &Room{Head: history.Head{Seq: 10, Epoch: "e"}}
	events := newRing(6, 10)
	r := New(proto.From{HasSince: true, Since: 2, Epoch: "e"})
	if _, live := r.Start(room.Head, room, events); live {
		t.Fatal("the ring lacks an event that the member needs")
	}
	if q := r.Query(room); q.Since != 2 || !q.HasSince || q.Reach != 10 {
		t.Fatalf("got the query %+v, want the records after 2", q)
	}
	if o := r.Take(page(3, 10, 10), room, true); o != (Outcome{}) {
		t.Fatalf("got %+v for a page that fits", o)
	}
	for want := uint64(3); ; want++ {
		at, live, rec := r.Next(room, events)
		if live {
			if want != 6 || at != 0 {
				t.Errorf("the ring continues at offset %d with %d, want 0 and 6", at, want)
			}
			return
		}
		if rec == nil || rec.Seq != want {
			t.Fatalf("got record %v, want %d", rec, want)
		}
	}
}

// A text session can be told of a gap only at its beginning.
func TestGapEndsSessionsThatCannotReceiveIt(t *testing.T) {
	room := &Room{Head: history.Head{Seq: 50, Epoch: "e"}}
	gap := page(41, 50, 50)
	gap.Gap = &proto.Gap{From: 3, To: 40, Reason: proto.GapTrimmed}
	for name, test := range map[string]struct {
		replay *Replay
		full   bool
		lost   bool
	}{
		"text at its beginning": {New(proto.From{HasSince: true, Since: 2}), false, false},
		"text later":            {Behind(3, "e"), false, true},
		"JSON at its beginning": {New(proto.From{HasSince: true, Since: 2}), true, false},
		"JSON later":            {Behind(3, "e"), true, false},
	} {
		if !test.replay.Started() {
			test.replay.Start(room.Head, room, new(ring.Log))
		}
		if o := test.replay.Take(gap, room, test.full); o.Lost != test.lost || o.Gap == nil {
			t.Errorf("%s: got %+v, want the gap and lost %v", name, o, test.lost)
		}
	}
}

func TestCloseAfterTheJoinEndsTheReplay(t *testing.T) {
	room := &Room{Head: history.Head{Seq: 5, Epoch: "e"}}
	r := New(proto.From{HasSince: true, Since: 1, Epoch: "e"})
	r.Start(room.Head, room, new(ring.Log))
	for seq, want := range map[uint64]bool{5: false, 6: true} {
		if got := r.Ends(&proto.Record{Seq: seq, Kind: proto.Closed}); got != want {
			t.Errorf("a closing numbered %d, after a join at 5: got %v, want %v", seq, got, want)
		}
	}
}

func TestMemberIsLostIfTheLogCannotBeRead(t *testing.T) {
	r := New(proto.From{})
	for try := 1; ; try++ {
		lost, why := r.Failed(errors.New("the log is away"))
		if why != nil || try > maxTries+1 {
			t.Fatalf("try %d: got refusal %v", try, why)
		}
		if lost {
			if try != maxTries+1 {
				t.Errorf("the member was lost at try %d, want %d", try, maxTries+1)
			}
			break
		}
	}
	if lost, _ := New(proto.From{}).Failed(proto.Refuse(proto.Overloaded, "no memory")); lost {
		t.Error("a lack of memory ended the replay")
	}
	if lost, why := New(proto.From{}).Failed(proto.Refuse(proto.Forbidden, "no")); !lost || why == nil {
		t.Error("a permanent refusal did not end the replay")
	}
}

// A client resumes in the newest epoch, but the gateway has not learned of this epoch yet and
// answers with the old one. A reset corrects this. After the reset, the client receives the
// events from the oldest one on.
func TestResetAfterAnAnswerWithAnOldEpochBeginsWithTheOldestRecord(t *testing.T) {
	room := &Room{Head: history.Head{Seq: 112, Epoch: "old"}}
	r := New(proto.From{HasSince: true, Since: 75, Epoch: "e"})
	r.Start(room.Head, room, newRing(110, 112))
	room.Head = history.Head{Seq: 80, Epoch: "e"}
	o := r.Take(page(76, 80, 80), room, true)
	if o.Gap == nil || o.Gap.Reason != proto.GapReset || o.Retry {
		t.Fatalf("got %+v, want a reset", o)
	}
	if _, live, rec := r.Next(room, newRing(80, 80)); live || rec != nil {
		t.Errorf("got record %v behind the reset, want another page first", rec)
	}
	if q := r.Query(room); q.Since != 0 || !q.HasSince || q.Epoch != "e" {
		t.Errorf("got the query %+v, want the oldest records", q)
	}
	if o := r.Take(page(1, 64, 80), room, true); o != (Outcome{}) {
		t.Errorf("got %+v for the oldest page", o)
	}
}
