package history_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// sized appends records with texts of the given lengths. Between them it appends small records
// of another room.
func sized(t *testing.T, s *historytest.Server, sizes []int) *historytest.Room {
	t.Helper()
	room, other := s.Room("sized", "e1"), s.Room("noise", "e2")
	for _, n := range sizes {
		m, rec := room.Next(fmt.Sprintf("message %d %s", room.Last.Seq+1, strings.Repeat("x", n)))
		if err := room.Commit(m, rec); err != nil {
			t.Fatal(err)
		}
		other.Append(rand.IntN(3))
	}
	return room
}

// TestBackwardReadCostsAboutItsPage compares the bytes that the server sends for large records
// with the bytes of the page.
func TestBackwardReadCostsAboutItsPage(t *testing.T) {
	const n, size, most = 300, 20 << 10, 96 << 10
	s := historytest.Start(t, 1000)
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = size
	}
	room := sized(t, s, sizes)
	nc := s.Conn()
	log := history.New(nc, nil)
	read := func(before uint64) (history.Page, int) {
		was := nc.Stats().InBytes
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Before: before, Limit: 256, Bytes: most})
		if err != nil {
			t.Fatal(err)
		}
		return p, int(nc.Stats().InBytes - was)
	}
	total, pages := 0, 0
	for before := uint64(n + 1); before > 1; pages++ {
		p, cost := read(before)
		total += cost
		if got := p.Records[len(p.Records)-1].Seq; got != before-1 {
			t.Fatalf("the page before %d ends with %d", before, got)
		}
		if held := p.Bytes(); held < most/2 && p.Records[0].Seq > 1 || held > most+most/8 {
			t.Errorf("the page before %d holds %d bytes, want about %d", before, held, most)
		}
		if cost > 6*most {
			t.Errorf("the page before %d cost %d bytes to read, for at most %d", before, cost, most)
		}
		before = p.Records[0].Seq
		if p.More != (before > 1) {
			t.Errorf("the page that begins with %d has more %v", before, p.More)
		}
	}
	t.Logf("%d pages of at most %d bytes, each read with %d bytes on average", pages, most, total/pages)
	if mean := total / pages; mean > 2*most {
		t.Errorf("a page of %d bytes costs %d bytes on average to read", most, mean)
	}
}

// TestBackwardPagesCoverTheLogForAnySize reads rooms with small and large records page by page,
// from the end and from each seq. Some of the rooms are trimmed.
func TestBackwardPagesCoverTheLogForAnySize(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			sizes := make([]int, 60+rnd.IntN(240))
			for i := range sizes {
				sizes[i] = rnd.IntN(200)
				if rnd.IntN(1+int(seed)*4) == 0 {
					sizes[i] = rnd.IntN(20 << 10)
				}
			}
			keep := int64(len(sizes))
			if seed%2 == 1 {
				keep = 70
			}
			s := historytest.Start(t, keep)
			room := sized(t, s, sizes)
			log := history.New(s.Conn(), nil)
			oldest := uint64(len(sizes)) - uint64(keep) + 1
			for before := uint64(len(sizes)) + 2; before > 0; before-- {
				limit, most := 1+rnd.IntN(80), 1+rnd.IntN(40<<10)
				p, err := log.Read(t.Context(), history.Query{Room: room.Name, Before: before, Limit: limit, Bytes: most})
				to := min(before-1, uint64(len(sizes)))
				if err == nil && to < oldest {
					if len(p.Records) > 0 || p.More {
						t.Fatalf("before %d: %d records of a trimmed part, more %v", before, len(p.Records), p.More)
					}
					continue
				}
				if err != nil || len(p.Records) == 0 || len(p.Records) > limit {
					t.Fatalf("before %d, at most %d: %d records, error %v", before, limit, len(p.Records), err)
				}
				first := p.Records[0].Seq
				check(t, fmt.Sprintf("before %d", before), p, nil, to-uint64(len(p.Records))+1, to)
				held := 0
				for _, r := range p.Records {
					held += len(r.Payload)
				}
				if held > most && len(p.Records) > 1 {
					t.Errorf("before %d: %d records with %d bytes, want at most %d", before, len(p.Records), held, most)
				}
				if first > oldest && !p.More {
					t.Errorf("before %d: there is no more before %d", before, first)
				}
				if first == 1 && p.More {
					t.Errorf("before %d: there is more before the first record", before)
				}
			}
		})
	}
}

// TestHeadsReadsManyLargeRecords requests more heads than fit into one answer of the server.
func TestHeadsReadsManyLargeRecords(t *testing.T) {
	s := historytest.Start(t, 10)
	var rooms []proto.Room
	want := make(map[proto.Room]uint64)
	for i := range 60 {
		room := s.Room(fmt.Sprintf("room%d", i), "e1")
		rooms = append(rooms, room.Name)
		for range i % 3 {
			if err := room.Commit(room.Next(strings.Repeat("x", 60_000))); err != nil {
				t.Fatal(err)
			}
			want[room.Name]++
		}
	}
	heads, err := history.New(s.Conn(), nil).Heads(t.Context(), rooms)
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		if got := heads[room].Seq; got != want[room] {
			t.Errorf("the head of %s is %d, want %d", room, got, want[room])
		}
	}
}
