package history_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/seal"
)

// check compares the seqs of a page with the expected ones.
func check(t *testing.T, name string, p history.Page, err error, from, to uint64) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if from > to {
		if len(p.Records) > 0 {
			t.Errorf("%s: got %d records from %d, want none", name, len(p.Records), p.Records[0].Seq)
		}
		return
	}
	if got, want := len(p.Records), int(to-from+1); got != want {
		t.Errorf("%s: got %d records, want %d", name, got, want)
		return
	}
	for i, r := range p.Records {
		if want := from + uint64(i); r.Seq != want {
			t.Errorf("%s: record %d has seq %d, want %d", name, i, r.Seq, want)
			return
		}
		if !bytes.Contains(r.Payload, fmt.Appendf(nil, `"text":"message %d`, r.Seq)) {
			t.Errorf("%s: record %d says %s", name, r.Seq, r.Payload)
			return
		}
	}
}

// fixture returns a Log and a room with n records. Records of other rooms are between them in
// the stream.
func fixture(t *testing.T, perRoom int64, n int) (*history.Log, *historytest.Room) {
	t.Helper()
	s := historytest.Start(t, perRoom)
	room, other := s.Room("lobby", "e1"), s.Room("noise", "e2")
	for range n {
		other.Append(1)
		room.Append(1)
	}
	return history.New(s.Conn(), nil), room
}

func TestReadBeginsAtEverySeq(t *testing.T) {
	const n = 300
	log, room := fixture(t, 1000, n)
	for since := uint64(0); since <= n; since++ {
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: since, HasSince: true, Epoch: "e1", Limit: 100})
		check(t, fmt.Sprintf("since %d", since), p, err, since+1, min(since+100, n))
		if want := since+100 < n; p.More != want || p.Gap != nil || p.Head.Seq != n {
			t.Errorf("since %d: more %v, gap %v, head %d; want %v, none, %d", since, p.More, p.Gap, p.Head.Seq, want, n)
		}
	}
	for last := 1; last <= n+5; last += 7 {
		first := max(1, n-last+1)
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Last: last, Limit: 256})
		check(t, fmt.Sprintf("last %d", last), p, err, uint64(first), uint64(min(first+255, n)))
	}
	for before := uint64(1); before <= n+2; before += 3 {
		to := min(before-1, n)
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Before: before, Limit: 50})
		check(t, fmt.Sprintf("before %d", before), p, err, max(to, 50)-49, to)
		if want := to > 50; p.More != want {
			t.Errorf("before %d: more %v, want %v", before, p.More, want)
		}
	}
	for after := uint64(0); after <= n; after += 11 {
		at := time.UnixMilli(1_795_000_000_000 + int64(after))
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, After: at, Limit: 30})
		check(t, fmt.Sprintf("after %d", after), p, err, after+1, min(after+30, n))
	}
	p, err := log.Read(t.Context(), history.Query{Room: room.Name})
	check(t, "newest page", p, err, n-63, n)
}

func TestReadReportsTrimmedRecords(t *testing.T) {
	log, room := fixture(t, 100, 300)
	for _, since := range []uint64{0, 1, 63, 64, 127, 128, 199} {
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: since, HasSince: true, Limit: 256})
		check(t, fmt.Sprintf("since %d", since), p, err, 201, 300)
		if want := (proto.Gap{Room: room.Name, From: since + 1, To: 200, Reason: proto.GapTrimmed}); p.Gap == nil || *p.Gap != want {
			t.Errorf("since %d: gap %v, want %v", since, p.Gap, want)
		}
	}
	p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 200, HasSince: true, Limit: 10})
	check(t, "since 200", p, err, 201, 210)
	if p.Gap != nil {
		t.Errorf("got gap %v although no record is missing", p.Gap)
	}
	p, err = log.Read(t.Context(), history.Query{Room: room.Name, Before: 150})
	check(t, "before what is left", p, err, 1, 0)
	p, err = log.Read(t.Context(), history.Query{Room: room.Name, Before: 210})
	check(t, "before 210", p, err, 201, 209)
	p, err = log.Read(t.Context(), history.Query{Room: room.Name, Last: 1000, Limit: 256})
	check(t, "last 1000", p, err, 201, 300)
	p, err = log.Read(t.Context(), history.Query{Room: room.Name, After: time.UnixMilli(1), Limit: 256})
	check(t, "after 1970", p, err, 201, 300)
}

func TestReadOfAnotherEpochIsAReset(t *testing.T) {
	log, room := fixture(t, 1000, 70)
	for name, q := range map[string]history.Query{
		"beyond the head": {Since: 71, Epoch: "e1"},
		"another epoch":   {Since: 12, Epoch: "e0"},
	} {
		q.Room, q.HasSince = room.Name, true
		p, err := log.Read(t.Context(), q)
		check(t, name, p, err, 1, 64)
		if want := (proto.Gap{Room: room.Name, From: q.Since + 1, Reason: proto.GapReset, Epoch: "e1", Seq: 70}); p.Gap == nil || *p.Gap != want {
			t.Errorf("%s: gap %v, want %v", name, p.Gap, want)
		}
	}
	empty := proto.MustRoom("empty")
	p, err := log.Read(t.Context(), history.Query{Room: empty, Since: 5, HasSince: true})
	if err != nil || p.Gap == nil || p.Gap.Reason != proto.GapReset || len(p.Records) > 0 {
		t.Errorf("since 5 of an empty room: %+v, %v", p, err)
	}
	p, err = log.Read(t.Context(), history.Query{Room: empty, HasSince: true})
	if err != nil || p.Gap != nil || p.Head != (history.Head{}) {
		t.Errorf("since 0 of an empty room: %+v, %v", p, err)
	}
}

func TestLastAndHeadsReturnNewestRecords(t *testing.T) {
	s := historytest.Start(t, 1000)
	log := history.New(s.Conn(), nil)
	if _, found, err := log.Last(t.Context(), proto.MustRoom("nobody")); found || err != nil {
		t.Errorf("last of an empty room: %v, %v", found, err)
	}
	var rooms []proto.Room
	var streams []uint64
	for i := range 300 {
		r := s.Room(fmt.Sprintf("room_%d", i), "e1")
		r.Append(1 + i%3)
		rooms, streams = append(rooms, r.Name), append(streams, r.Last.Stream)
		if last, found, err := log.Last(t.Context(), r.Name); !found || err != nil || last.Seq != r.Last.Seq || last.Stream != r.Last.Stream {
			t.Fatalf("last: %+v, %v, %v", last, found, err)
		}
	}
	rooms = append(rooms, proto.MustRoom("nobody"))
	heads, err := log.Heads(t.Context(), rooms)
	if err != nil || len(heads) != 300 {
		t.Fatalf("got %d heads, %v, want 300", len(heads), err)
	}
	for i := range 300 {
		if got, want := heads[rooms[i]], (history.Head{Seq: uint64(1 + i%3), Epoch: "e1", At: time.UnixMilli(1_795_000_000_001 + int64(i%3)).UTC(), Stream: streams[i]}); got != want {
			t.Errorf("head %d: %+v, want %+v", i, got, want)
		}
	}
}

func TestSealedLogNeedsItsKey(t *testing.T) {
	keys, err := seal.New(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	s := historytest.Start(t, 1000)
	s.Keys = keys
	room := s.Room("lobby", "e1")
	room.Append(70)
	log, blind := history.New(s.Conn(), keys), history.New(s.Conn(), nil)
	p, err := log.Read(t.Context(), history.Query{Room: room.Name, HasSince: true, Limit: 256})
	check(t, "with the key", p, err, 1, 70)
	if _, err := blind.Read(t.Context(), history.Query{Room: room.Name}); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the key: %v", err)
	}
}

func TestForeignMessagesAreSkipped(t *testing.T) {
	s := historytest.Start(t, 1000)
	log := history.New(s.Conn(), nil)
	room := s.Room("lobby", "e1")
	foreign := func() {
		if _, err := s.JS.Publish(t.Context(), room.Name.LogSubject(), []byte("hello?")); err != nil {
			t.Fatal(err)
		}
	}
	foreign()
	if _, found, err := log.Last(t.Context(), room.Name); found || err != nil {
		t.Errorf("last: %v, %v", found, err)
	}
	for range 70 {
		room.Append(1)
		foreign()
	}
	if last, found, err := log.Last(t.Context(), room.Name); !found || err != nil || last.Seq != 70 {
		t.Errorf("last: %+v, %v, %v", last, found, err)
	}
	p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 3, HasSince: true, Limit: 256})
	check(t, "among foreign ones", p, err, 4, 70)
}

func TestReadWithoutAStreamEndsWithItsContext(t *testing.T) {
	s := historytest.Start(t, 10)
	if err := s.JS.DeleteStream(t.Context(), proto.StreamName); err != nil {
		t.Fatal(err)
	}
	log := history.New(s.Conn(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := log.Read(ctx, history.Query{Room: proto.MustRoom("lobby")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read without a stream: %v", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the read took %v, longer than its deadline", took)
	}
}

// A read fetches little more than its page, even if records are large. Otherwise a reader that
// reads page by page would fetch the records of the room many times.
func TestLargeRecordsAreFetchedOnce(t *testing.T) {
	const n = 400
	s := historytest.Start(t, 1000)
	room := s.Room("lobby", "e1")
	for range n {
		if err := room.Commit(room.Next(strings.Repeat("x", 64<<10))); err != nil {
			t.Fatal(err)
		}
	}
	nc := s.Conn()
	log := history.New(nc, nil)
	held := 0
	for seq := uint64(0); seq < n; {
		p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: seq, HasSince: true, Limit: history.MaxLimit})
		if err != nil || len(p.Records) == 0 || p.Records[0].Seq != seq+1 {
			t.Fatalf("after %d: got %d records, %v", seq, len(p.Records), err)
		}
		for _, r := range p.Records {
			held += len(r.Payload)
		}
		seq = p.Records[len(p.Records)-1].Seq
	}
	if read := int(nc.Stats().InBytes); read > 8*held {
		t.Errorf("got %d bytes of records by reading %d", held, read)
	} else {
		t.Logf("%d bytes of records by reading %d", held, read)
	}
}

// A page contains the stream sequence from which the next page begins. So a reader that reads
// page by page need not search the log for each page.
func TestLongLogIsFetchedOnce(t *testing.T) {
	const n, limit = 10_000, 64 // more pages than a search follows backwards
	s := historytest.Start(t, n)
	room := s.Room("lobby", "e1")
	for range n {
		if err := room.Commit(room.Next("hello")); err != nil {
			t.Fatal(err)
		}
	}
	nc := s.Conn()
	log := history.New(nc, nil)
	before, q := nc.Stats().InMsgs, history.Query{Room: room.Name, HasSince: true, Limit: limit}
	for q.Since < n {
		p, err := log.Read(t.Context(), q)
		if err != nil || len(p.Records) == 0 || p.Records[0].Seq != q.Since+1 || p.Gap != nil {
			t.Fatalf("after %d: got %d records, gap %v, %v", q.Since, len(p.Records), p.Gap, err)
		}
		last := p.Records[len(p.Records)-1]
		q.Since, q.Stream = last.Seq, last.Stream
	}
	if read := nc.Stats().InMsgs - before; read > 2*n {
		t.Errorf("got %d records by reading %d messages", n, read)
	}
	// If the given stream sequence is wrong, Read searches the log.
	p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 9000, HasSince: true, Stream: 9500, Limit: 1})
	if err != nil || len(p.Records) != 1 || p.Records[0].Seq != 9001 || p.Gap != nil {
		t.Errorf("after 9000, with stream sequence 9500: got %v, gap %v, %v", p.Records, p.Gap, err)
	}
}
