package history

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"roomcast/proto"
)

// maxHops bounds how many pages a reader walks back before it reads from the oldest
// record instead.
const maxHops = 64

// maxBatch is the most records one request asks for: a page, and what lies between the
// place a pointer leads to and the first record that is wanted.
const maxBatch = MaxLimit + 2*proto.PageSize

// Read returns the page that q asks for. An answer that is not contiguous or that lacks
// what is known to exist comes from a replica that is behind: it is asked for again, and
// at last of the leader, record by record.
//
// Only Since promises to leave nothing out, so only there a gap is reported: trimmed if
// the log begins later, damaged if the log has lost records within, and reset if the
// room has another epoch than Since was counted in, or never came that far. After a
// reset the page begins with the oldest record.
func (l *Log) Read(ctx context.Context, q Query) (Page, error) {
	if q.Limit <= 0 {
		q.Limit = DefaultLimit
	}
	q.Limit = min(q.Limit, MaxLimit)
	if q.Bytes <= 0 || q.Bytes > MaxPageBytes {
		q.Bytes = MaxPageBytes
	}
	head, found, err := l.head(ctx, q)
	if err != nil {
		return Page{}, err
	}
	var p Page
	if q.contradicts(head) {
		p.Gap = q.reset(head)
	}
	if !found {
		p.Head, err = l.emptyHead(ctx, q.Room)
		return p, err
	}
	p.Head = HeadOf(head)
	w := q.want(head)
	if err := l.fill(ctx, &p, &w, head); err != nil {
		return Page{}, err
	}
	if w.before != nil && q.differs(*w.before) {
		p.Gap = q.reset(head)
		w = q.want(head)
		if err := l.fill(ctx, &p, &w, head); err != nil {
			return Page{}, err
		}
	}
	p.finish(w, q.HasSince)
	if p.Gap != nil && p.Gap.Reason != proto.GapReset {
		if p.Gap.Reason, err = l.missing(ctx, q.Room, p.Gap.From); err != nil {
			return Page{}, fmt.Errorf("read log: %w", err)
		}
	}
	for i := range p.Records {
		adopt(&p.Records[i], p.Head.Epoch)
	}
	return p, nil
}

// missing says why the record numbered seq is not in the log. A limit removes the oldest
// records of a room first: where an older one is left, the log has lost the record.
func (l *Log) missing(ctx context.Context, room proto.Room, seq uint64) (proto.GapReason, error) {
	records, _, err := l.batch(ctx, room, 1, 1, maxAnswer)
	if err != nil {
		return "", err
	}
	if len(records) > 0 && records[0].Seq < seq {
		l.damaged(room)
		return proto.GapDamaged, nil
	}
	return proto.GapTrimmed, nil
}

// reset has q begin with the oldest record, because the log that ends with head is not
// the one that it continues, and returns the gap that says so.
func (q *Query) reset(head proto.Record) *proto.Gap {
	gap := Reset(q.Room, q.Since, headOf(head))
	q.Since, q.Stream, q.Before, q.Epoch, q.At = 0, 0, 0, "", time.Time{}
	return gap
}

// Reset returns the gap for a reader that has seen a room's events up to since, and is
// shown another history now. A room that is closed was closed by head; every earlier
// closing has been undone.
func Reset(room proto.Room, since uint64, head Head) *proto.Gap {
	gap := &proto.Gap{Room: room, From: since + 1, Reason: proto.GapReset, Epoch: head.Epoch, Seq: head.Seq}
	if head.Closed && gap.Seq > 0 {
		gap.Seq--
	}
	return gap
}

// fill reads the records of w into p, from any replica, and at last from the leader.
func (l *Log) fill(ctx context.Context, p *Page, w *want, head proto.Record) (err error) {
	if w.from > w.to {
		return nil
	}
	for try := 0; ; try++ {
		p.Records, err = l.read(ctx, w, head, try == staleRetries)
		if w.behind > 0 && (len(p.Records) == 0 || p.Records[0].Seq != w.from) {
			w.behind = 0 // the log is not what it was; the place has to be searched
			continue
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errStale) || try == staleRetries {
			return fmt.Errorf("read log: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("read log: %w: %w", ctx.Err(), err)
		case <-time.After(staleWait << try):
		}
	}
}

// want is what of a room's log a page is to hold.
type want struct {
	room     proto.Room
	from, to uint64 // seqs, both included; from may have been trimmed
	behind   uint64 // stream sequence that from comes next after; 0 = not known
	check    bool   // the record before from is read too, if it is there
	before   *proto.Record
	after    time.Time // only records after this time
	limit    int
	bytes    int  // of payloads
	backward bool // the newest of the range are wanted, not the oldest
}

// want turns the query into seqs, now that the head is known.
func (q Query) want(head proto.Record) want {
	w := want{room: q.Room, from: 1, to: head.Seq, limit: q.Limit, bytes: q.Bytes}
	if q.Before > 0 {
		w.to = min(w.to, q.Before-1)
	}
	limit := uint64(q.Limit)
	switch {
	case q.HasSince:
		w.from, w.behind = q.Since+1, q.Stream
		w.check = q.Since > 0 && !q.At.IsZero()
	case q.Last > 0:
		if n := uint64(q.Last); w.to > n {
			w.from = w.to - n + 1
		}
	case !q.After.IsZero():
		if w.after = q.After; !head.State.At.After(q.After) {
			w.from = w.to + 1
		}
	default:
		w.backward = true
		if w.to > limit {
			w.from = w.to - limit + 1
		}
	}
	return w
}

// holds reports whether r is wanted.
func (w want) holds(r proto.Record) bool {
	return r.Seq >= w.from && r.Seq <= w.to && (w.after.IsZero() || r.State.At.After(w.after))
}

// finish cuts the page to its limits and says what is missing at its ends.
func (p *Page) finish(w want, promised bool) {
	if len(p.Records) == 0 {
		return
	}
	first := p.Records[0].Seq
	if promised && first > w.from {
		if p.Gap == nil {
			p.Gap = &proto.Gap{Room: w.room, From: w.from, To: first - 1, Reason: proto.GapTrimmed}
		}
	}
	if w.backward {
		from := first
		p.Records = p.Records[len(p.Records)-fitting(slices.Backward(p.Records), w):]
		first = p.Records[0].Seq
		p.More = first > 1 && (from == w.from || first > from)
		return
	}
	p.Records = p.Records[:fitting(slices.All(p.Records), w)]
	p.More = p.Records[len(p.Records)-1].Seq < w.to
}

// fitting returns how many of the records go into one page, at least one.
func fitting(records iter.Seq2[int, proto.Record], w want) (n int) {
	bytes := 0
	for _, r := range records {
		if bytes += len(r.Payload); n > 0 && (bytes > w.bytes || n == w.limit) {
			break
		}
		n++
	}
	return n
}

// errStale is returned for an answer that lacks records which exist.
var errStale = errors.New("the answering replica is behind")

// read returns the records of w from the first that still exists, without holes, at
// least as many as a page needs. Where a record inside the log is missing even for the
// leader, it ends before the hole, so that the next page begins with a gap.
func (l *Log) read(ctx context.Context, w *want, head proto.Record, byLeader bool) ([]proto.Record, error) {
	if w.from == head.Seq && w.to == head.Seq && !w.check {
		return []proto.Record{head}, nil
	}
	next := l.batch
	if byLeader {
		next = l.single
	}
	if w.backward {
		return readBack(ctx, w, head, next, byLeader)
	}
	from, about, err := seek(ctx, *w, head, next)
	if err != nil {
		return nil, err
	}
	var out []proto.Record
	seen := uint64(0) // the last seq read
	bytes := 0        // of out; the page ends where it has enough of them
	full := func() bool { return len(out) >= w.limit || bytes >= w.bytes }
	for seen < w.to && !full() {
		records, after, err := next(ctx, w.room, from, min(about, maxBatch), w.bytes-bytes)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if seen = r.Seq; w.check && r.Seq == w.from-1 {
				w.before = &r
			}
			if !w.holds(r) {
				continue
			}
			if n := len(out); n > 0 && r.Seq != out[n-1].Seq+1 {
				if byLeader {
					return out, nil
				}
				return nil, errStale
			}
			out = append(out, r)
			bytes += len(r.Payload)
		}
		if after == from {
			break
		}
		from = after
	}
	if seen < w.to && !full() && !byLeader {
		return nil, errStale
	}
	return out, nil
}

// place returns where to read a page from that begins with seq: a room's first page from
// the oldest message of the stream, which costs the server an index look-up, whereas
// from a place in the middle it first counts what is left of the block there.
func place(seq, pointer uint64) uint64 {
	if seq == 1 {
		return 1
	}
	return max(pointer, 1)
}

// seek finds a stream sequence at or before the first record that w needs, by walking
// from page to page, and about how many records of the room one has to read from there.
func seek(ctx context.Context, w want, head proto.Record, next reader) (from uint64, about int, err error) {
	first, end := w.from, min(w.to, w.from+uint64(w.limit)-1)
	if w.check {
		first--
	}
	if w.behind > 0 {
		return w.behind + first - w.from + 1, w.limit, nil
	}
	last := head
	for range maxHops {
		own := begin(last.Seq)
		if w.after.IsZero() && own <= first {
			return place(own, last.State.Start), int(end - own + 1), nil
		}
		if own == 1 {
			return 1, maxBatch, nil
		}
		if page := begin(own - 1); w.after.IsZero() && page <= first {
			return place(page, last.State.Page), int(end - page + 1), nil
		}
		if last.State.Page == 0 {
			break
		}
		before, err := at(ctx, w.room, last.State.Page, next)
		if err != nil {
			return 0, 0, err
		}
		trimmed := before.Seq >= last.Seq
		if trimmed || before.Seq <= first || !w.after.IsZero() && !before.State.At.After(w.after) {
			return before.Stream, w.limit + proto.PageSize, nil
		}
		last = before
	}
	return 1, maxBatch, nil
}

// begin returns the first seq of the page that seq is on.
func begin(seq uint64) uint64 { return (seq-1)/proto.PageSize*proto.PageSize + 1 }

// reader reads up to n records of the room from a stream sequence on, opened, and ends
// after the one that passes so many bytes. It returns where to go on too, which is from
// itself when there was nothing to read.
type reader func(ctx context.Context, room proto.Room, from uint64, n, bytes int) ([]proto.Record, uint64, error)

// at returns the room's first record at or after a stream sequence that the head lies
// behind.
func at(ctx context.Context, room proto.Room, seq uint64, next reader) (proto.Record, error) {
	for {
		records, after, err := next(ctx, room, seq, 1, maxAnswer)
		switch {
		case err != nil:
			return proto.Record{}, err
		case len(records) > 0:
			return records[0], nil
		case after == seq:
			return proto.Record{}, errStale
		}
		seq = after
	}
}

// batch is the reader that asks any replica.
func (l *Log) batch(ctx context.Context, room proto.Room, from uint64, n, bytes int) ([]proto.Record, uint64, error) {
	r := request{Seq: from, NextBy: room.LogSubject()}
	if n > 1 {
		r.Batch, r.MaxBytes = n, min(max(bytes, 1), maxAnswer)
	}
	got, err := l.direct(ctx, r)
	if errors.Is(err, errNone) {
		return nil, from, nil
	}
	if err != nil {
		return nil, from, err
	}
	return l.records(got, from)
}

// single is the reader that asks the leader, for one record at a time.
func (l *Log) single(ctx context.Context, room proto.Room, from uint64, _, _ int) ([]proto.Record, uint64, error) {
	s, err := l.leader(ctx, request{Seq: from, NextBy: room.LogSubject()})
	if errors.Is(err, errNone) {
		return nil, from, nil
	}
	if err != nil {
		return nil, from, err
	}
	return l.records([]stored{s}, from)
}

// records parses and opens messages; those that are no records are passed over.
func (l *Log) records(got []stored, from uint64) ([]proto.Record, uint64, error) {
	out := make([]proto.Record, 0, len(got))
	for _, s := range got {
		from = s.seq + 1
		r, err := record(s)
		if errors.Is(err, errForeign) {
			continue
		}
		if err == nil {
			err = l.open(s, &r)
		}
		if err != nil {
			return nil, from, err
		}
		out = append(out, r)
	}
	return out, from, nil
}
