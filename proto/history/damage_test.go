package history_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// walk reads a whole room page by page. It returns the seqs of the records, and the gaps.
func walk(t *testing.T, log *history.Log, q history.Query) (seqs []uint64, gaps []string) {
	t.Helper()
	for range 100 {
		p, err := log.Read(t.Context(), q)
		if err != nil {
			t.Errorf("read %+v: %v", q, err)
			return seqs, gaps
		}
		if p.Gap != nil {
			gaps = append(gaps, fmt.Sprintf("%d-%d %s", p.Gap.From, p.Gap.To, p.Gap.Reason))
		}
		page := make([]uint64, len(p.Records))
		for i, r := range p.Records {
			page[i] = r.Seq
		}
		if len(page) == 0 {
			return seqs, gaps
		}
		if q.HasSince || q.Last > 0 || !q.After.IsZero() {
			seqs = append(seqs, page...)
			q = history.Query{Room: q.Room, HasSince: true, Since: page[len(page)-1], Limit: q.Limit}
		} else {
			seqs = append(page, seqs...)
			q.Before = page[0]
		}
	}
	t.Errorf("read %+v: no end", q)
	return seqs, gaps
}

// If one bit of a record has flipped, readers receive all other records. A reader that continues
// from a seq receives a gap for the damaged record.
func TestReadSkipsDamagedRecords(t *testing.T) {
	const n = 150
	s := historytest.Start(t, 1000)
	room, other := s.Room("lobby", "e1"), s.Room("noise", "e2")
	for range n {
		other.Append(1)
		room.Append(1)
	}
	log := history.New(s.Conn(), nil)
	told := 0
	log.Damaged = func(proto.Room) { told++ }
	for _, bad := range []uint64{1, 2, 30, 64, 65, 66, 100, 128, 129, 149, 150} {
		text := fmt.Sprintf(`\{"room":"lobby","seq":%d,`, bad)
		s.Stop()
		s.Store().Flip(proto.StreamName, text)
		s.Restart()
		var want []uint64
		for seq := uint64(1); seq <= n; seq++ {
			if seq != bad {
				want = append(want, seq)
			}
		}
		var gap []string
		if bad < n {
			reason := "damaged"
			if bad == 1 {
				reason = "trimmed" // there is no older record, so it looks as if a limit had removed this one
			}
			gap = []string{fmt.Sprintf("%d-%d %s", bad, bad, reason)}
		}
		for _, q := range []history.Query{
			{HasSince: true, Limit: 10}, {HasSince: true, Limit: 64}, {HasSince: true, Limit: 256, Epoch: "e1"},
			{Last: n, Limit: 256}, {After: time.UnixMilli(1_795_000_000_000), Limit: 40}, {Limit: 20}, {Limit: 256},
		} {
			q.Room = room.Name
			seqs, gaps := walk(t, log, q)
			if !slices.Equal(seqs, want) {
				t.Errorf("record %d is damaged; read %+v: got %v", bad, q, seqs)
			}
			if q.HasSince && !slices.Equal(gaps, gap) {
				t.Errorf("record %d is damaged; read %+v: got gaps %v, want %v", bad, q, gaps, gap)
			}
		}
		head := want[len(want)-1]
		last, found, err := log.Last(t.Context(), room.Name)
		if err != nil || !found || last.Seq != head {
			t.Errorf("record %d is damaged; last: got %d, %v, %v", bad, last.Seq, found, err)
		}
		heads, err := log.Heads(t.Context(), []proto.Room{room.Name, other.Name})
		if err != nil || heads[room.Name].Seq != head || heads[other.Name].Seq != n {
			t.Errorf("record %d is damaged; heads: got %+v, %v", bad, heads, err)
		}
		if err := log.Readable(t.Context()); err != nil {
			t.Errorf("record %d is damaged; readable: %v", bad, err)
		}
		if t.Failed() {
			return
		}
		s.Stop()
		s.Store().Flip(proto.StreamName, text)
		s.Restart()
	}
	if told == 0 {
		t.Error("no reader received a gap for the damage")
	}
}

// If the NATS server can read a record in spite of a damaged store, readers receive the record
// without an error.
func TestReadReturnsAllIntactRecordsOfADamagedStore(t *testing.T) {
	const n = 150
	text := `\{"room":"lobby","seq":100,`
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, s *historytest.Server)
		want   uint64 // seq of the newest remaining record
		gaps   string
	}{
		{"index after a clean stop", func(t *testing.T, s *historytest.Server) {
			s.Stop()
			s.Store().FlipByte(s.Store().Index(proto.StreamName), 40)
		}, n, "[]"},
		{"no index after a crash", func(t *testing.T, s *historytest.Server) {
			s.Stop()
			s.Store().Crash()
		}, n, "[]"},
		{"record after a clean stop", func(t *testing.T, s *historytest.Server) {
			s.Stop()
			s.Store().Flip(proto.StreamName, text)
		}, n, "[100-100 damaged]"},
		// The server truncates the block at the damaged record.
		{"record after a crash", func(t *testing.T, s *historytest.Server) {
			s.Stop()
			s.Store().Crash()
			s.Store().Flip(proto.StreamName, text)
		}, 99, "[]"},
		{"head of the block after a clean stop", func(t *testing.T, s *historytest.Server) {
			s.Stop()
			s.Store().FlipByte(s.Store().Block(proto.StreamName), 2)
		}, 0, "[]"},
		{"head of the block after a crash", func(t *testing.T, s *historytest.Server) {
			s.Stop()
			s.Store().Crash()
			s.Store().FlipByte(s.Store().Block(proto.StreamName), 2)
		}, 0, "[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := historytest.Start(t, 1000)
			room, other := s.Room("lobby", "e1"), s.Room("noise", "e2")
			for range n {
				other.Append(1)
				room.Append(1)
			}
			log := history.New(s.Conn(), nil)
			test.damage(t, s)
			s.Restart()
			seqs, gaps := walk(t, log, history.Query{Room: room.Name, HasSince: true})
			if fmt.Sprint(gaps) != test.gaps {
				t.Errorf("got gaps %v, want %s", gaps, test.gaps)
			}
			if len(seqs) > 0 && (seqs[0] != 1 || seqs[len(seqs)-1] != test.want) || len(seqs) == 0 && test.want > 0 {
				t.Errorf("got records %v, want the records up to %d", seqs, test.want)
			}
			last, found, err := log.Last(t.Context(), room.Name)
			if err != nil || found != (test.want > 0) || last.Seq != test.want {
				t.Errorf("last: got %d, %v, %v", last.Seq, found, err)
			}
			if err := log.Readable(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
