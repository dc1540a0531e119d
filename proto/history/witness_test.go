package history_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// atOf returns the time of the record with the given seq in the fixture's room.
func atOf(r *historytest.Room, seq uint64) time.Time {
	return r.Begin.Add(time.Duration(seq) * time.Millisecond)
}

// A reader that gives the right time of its last event continues without a gap from every seq.
// This is so even if a limit has removed the record of that event.
func TestOtherTimeOfTheSameSeqIsAReset(t *testing.T) {
	const n, kept = 300, 200
	log, room := fixture(t, kept, n)
	for since := uint64(0); since <= n; since++ {
		p, err := log.Read(t.Context(), history.Query{
			Room: room.Name, Since: since, HasSince: true, Epoch: "e1", At: atOf(room, since), Limit: 50,
		})
		first := max(since, n-kept) + 1
		check(t, fmt.Sprintf("since %d", since), p, err, first, min(first+49, n))
		var want *proto.Gap
		if first > since+1 {
			want = &proto.Gap{Room: room.Name, From: since + 1, To: first - 1, Reason: proto.GapTrimmed}
		}
		if fmt.Sprint(p.Gap) != fmt.Sprint(want) {
			t.Errorf("since %d: got gap %v, want %v", since, p.Gap, want)
		}
		if want := first+49 < n; p.More != want {
			t.Errorf("since %d: got more %v, want %v", since, p.More, want)
		}
	}
}

// The log was restored from a copy. Since then it has grown beyond the reader's seq, in the same
// epoch. Only the time of the reader's last event shows that the log now has another event with
// this seq.
func TestReaderOfAReplacedLogReceivesAReset(t *testing.T) {
	s := historytest.Start(t, 1000)
	log := history.New(s.Conn(), nil)
	room := s.Room("lobby", "e1")
	room.Append(200)
	saw := atOf(room, 200)
	room.Cut(50)
	room.Begin = room.Begin.Add(time.Hour)
	for head := uint64(151); head <= 280; head++ {
		room.Append(1)
		if head < 200 {
			continue
		}
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 200, HasSince: true, Epoch: "e1", At: saw, Limit: 40})
		check(t, fmt.Sprintf("head %d", head), p, err, 1, 40)
		if want := (proto.Gap{Room: room.Name, From: 201, Reason: proto.GapReset, Epoch: "e1", Seq: head}); p.Gap == nil || *p.Gap != want {
			t.Errorf("head %d: got gap %v, want %v", head, p.Gap, want)
		}
		if !p.More {
			t.Errorf("head %d: got no more, want more", head)
		}
	}
	for _, since := range []uint64{1, 64, 65, 149, 150} { // the seqs of the remaining records
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: since, HasSince: true, Epoch: "e1", At: atOf(room, since).Add(-time.Hour), Limit: 40})
		check(t, fmt.Sprintf("since %d", since), p, err, since+1, since+40)
		if p.Gap != nil {
			t.Errorf("since %d: got gap %v, want none", since, p.Gap)
		}
	}
	p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 200, HasSince: true, Epoch: "e1", Limit: 40})
	check(t, "without a time", p, err, 201, 240)
}

// After the log has lost its end, the remaining records belong to the new epoch.
func TestRemainingRecordsBelongToTheNewEpoch(t *testing.T) {
	s := historytest.Start(t, 1000)
	log := history.New(s.Conn(), nil)
	room := s.Room("lobby", "e1")
	room.Append(100)
	room.Cut(10)
	room.Renew("another2")
	room.Append(40)
	p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 95, HasSince: true, Epoch: "e1", At: atOf(room, 95), Limit: 256})
	check(t, "since 95 of the old epoch", p, err, 1, 130)
	if want := (proto.Gap{Room: room.Name, From: 96, Reason: proto.GapReset, Epoch: "another2", Seq: 130}); p.Gap == nil || *p.Gap != want {
		t.Errorf("got gap %v, want %v", p.Gap, want)
	}
	for _, r := range p.Records {
		names := strings.Contains(string(r.Payload), `"epoch":"another2"`)
		if r.State.Epoch != "another2" || names != (r.Seq == 1 || r.Seq == 91) {
			t.Errorf("record %d of epoch %s: %s", r.Seq, r.State.Epoch, r.Payload)
		}
		if content, ok := r.Text.Content(r.Payload); !ok || string(content) != fmt.Sprintf("message %d", r.Seq) {
			t.Errorf("record %d: got content %q", r.Seq, content)
		}
	}
	for _, since := range []uint64{1, 89, 90, 91, 130} {
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: since, HasSince: true, Epoch: "another2", At: atOf(room, since), Limit: 256})
		check(t, fmt.Sprintf("since %d of the new epoch", since), p, err, since+1, 130)
		if p.Gap != nil {
			t.Errorf("since %d of the new epoch: got gap %v, want none", since, p.Gap)
		}
	}
}

// A reset contains the seq up to which a reopening has undone all closes.
func TestResetNamesTheUndoneCloses(t *testing.T) {
	s := historytest.Start(t, 1000)
	log := history.New(s.Conn(), nil)
	room := s.Room("lobby", "e1")
	gap := func() *proto.Gap {
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 99, HasSince: true})
		if err != nil || p.Gap == nil {
			t.Fatalf("got gap %v, %v", p.Gap, err)
		}
		return p.Gap
	}
	room.Append(3)
	room.Act(proto.Closed, "enough")
	if got := gap(); got.Seq != 3 {
		t.Errorf("closed with 4: got %d, want 3", got.Seq)
	}
	room.Act(proto.Reopened, "")
	if got := gap(); got.Seq != 5 {
		t.Errorf("reopened with 5: got %d, want 5", got.Seq)
	}
}
