package bridge_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/history/historytest"
)

// deliveries returns the seqs of the room's events, and the gaps. After each gap, the seqs begin
// a new part.
func (f *follower) deliveries(room proto.Room) (parts [][]uint64, resets []proto.Gap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	parts = append(parts, nil)
	for _, d := range f.got {
		switch {
		case d.Room != room:
		case d.Gap != nil:
			resets, parts = append(resets, *d.Gap), append(parts, nil)
		case d.Seq > 0:
			parts[len(parts)-1] = append(parts[len(parts)-1], d.Seq)
		}
	}
	return parts, resets
}

// upTo returns the numbers from 1 to n.
func upTo(n uint64) (out []uint64) {
	for seq := uint64(1); seq <= n; seq++ {
		out = append(out, seq)
	}
	return out
}

// The log of a room has lost its end. The room continues with the next seq, in another epoch.
// Its followers must receive one reset, and then all events of the new epoch.
func TestNewEpochContinuesTheNumbering(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a := open(t, s, "a")
	room := s.Room("lobby", "e1")
	a.follow(t, room.Name)
	room.Append(300)
	a.wantEvents(t, room.Name, 1, 300)
	room.Cut(10)
	room.Renew("e2")
	room.Append(100) // while the feed is reading the first records
	eventually(t, "the new history", func() bool {
		parts, _ := a.deliveries(room.Name)
		return len(parts) > 1 && slices.Equal(parts[len(parts)-1], upTo(390))
	})
	parts, resets := a.deliveries(room.Name)
	if !slices.Equal(parts[0], upTo(300)) {
		t.Errorf("before the reset: got %v", parts[0])
	}
	renewed := 0
	for i, gap := range resets {
		if gap.Reason != proto.GapReset || gap.To != 0 {
			t.Errorf("got gap %+v, want a reset", gap)
		}
		if gap.Epoch == "e2" {
			renewed++
			continue
		}
		// The feed may notice the loss before the first record of the new epoch is stored.
		if got := parts[i+1]; gap.From != 301 || !slices.Equal(got, upTo(uint64(len(got)))) {
			t.Errorf("after %+v: got %v", gap, got)
		}
	}
	if renewed != 1 {
		t.Errorf("got %d resets to the new epoch, want 1: %+v", renewed, resets)
	}
	if head := a.follow(t, room.Name); head.Epoch != "e2" || head.Seq != 390 || !head.At.Equal(room.Last.State.At) {
		t.Errorf("got head %+v", head)
	}
}

// A log was restored from a copy and continued in the same epoch. It is another history, even if
// its newest seq equals the newest seq that followers have received.
func TestAnotherRecordWithTheNewestSeqIsAnotherHistory(t *testing.T) {
	s := historytest.Start(t, 1000, byHand)
	own(t, s).end(t)
	a, nc := open(t, s, "a"), s.Conn()
	room := s.Room("lobby", "e1")
	a.follow(t, room.Name)
	republish(t, nc, commit(room, 5))
	a.wantEvents(t, room.Name, 1, 5)
	room.Cut(2)
	room.Begin = room.Begin.Add(time.Hour)
	republish(t, nc, commit(room, 2))
	eventually(t, "the new history", func() bool {
		parts, _ := a.deliveries(room.Name)
		return len(parts) > 1 && slices.Equal(parts[len(parts)-1], upTo(5))
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	newest := a.got[len(a.got)-1]
	if want := room.Last.State.At; !newest.At.Equal(want) {
		t.Errorf("got the newest event of %v, want %v: %s", newest.At, want, fmt.Sprint(newest.Seq))
	}
}
