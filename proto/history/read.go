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

// maxHops is how many pointers to a previous page a read follows. A read that would need more
// begins at the oldest record.
const maxHops = 64

// maxBatch bounds the records of one request. It allows for the largest page, and for the records
// that may lie between the position of a pointer and the page's first record.
const maxBatch = MaxLimit + 2*proto.PageSize

// Read returns the page that q describes. If an answer has a hole or lacks records that must
// exist, then the replica is outdated. Read asks again. If that does not help, it asks the
// stream's leader for one record after the other.
//
// A query with Since continues from what a reader has received. So if records are missing, its
// page contains a gap. The reason is trimmed if the log begins later, and damaged if the log has
// lost the records. The reason is reset if the room has another epoch, or has not reached Since.
// After a reset, the page begins with the oldest record.
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
	if !found {
		if p.Head, err = emptyHead(ctx, l, q.Room); err != nil {
			return Page{}, err
		}
		if p.Head.Seq > 0 { // the replica was behind the owner, or stopping
			q.Reach = max(q.Reach, p.Head.Seq)
			return l.Read(ctx, q)
		}
	}
	if q.contradicts(head) {
		p.Gap = q.reset(head)
	}
	if !found {
		return p, nil
	}
	p.Head = HeadOf(head)
	if !q.own {
		if err := l.Complete(ctx, q.Room, &p.Head); err != nil {
			return Page{}, err
		}
	}
	limits := q.limits
	if !q.own {
		limits = p.Head.Limits.In(p.Head.Epoch)
	}
	w := q.want(head)
	w.limits = limits
	if err := l.fill(ctx, &p, &w, head); err != nil {
		return Page{}, err
	}
	for q.HasSince && len(p.Records) > 0 && p.Records[0].Seq > w.from {
		// Either a limit has removed the records, or moderators have deleted them since the
		// snapshot was read.
		changed, err := newer(ctx, l, &p, &w)
		if err != nil {
			return Page{}, err
		}
		if !changed {
			break
		}
		if err := l.fill(ctx, &p, &w, head); err != nil {
			return Page{}, err
		}
	}
	if w.before != nil && w.before.Stream > 0 && q.differs(*w.before) {
		// Either the log has lost its end and grown again, or only this replica has another record.
		same, err := leaderAgrees(ctx, l, q)
		switch {
		case err != nil:
			return Page{}, fmt.Errorf("read log: %w", err)
		case same:
			w.leader = true
		default:
			p.Gap = q.reset(head)
			w = q.want(head)
			w.limits = p.Head.Limits.In(p.Head.Epoch)
		}
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
	if q.own {
		return p, nil
	}
	for i := range p.Records {
		adopt(&p.Records[i], p.Head.Epoch)
	}
	return p, showEdits(ctx, l, q.Room, &p)
}

// missing returns why the log lacks the record with this seq. A limit removes the oldest records
// first. So if an older record exists, the log has lost this record.
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

// reset makes q begin with the oldest record, because the reader has received another history. It
// returns the gap that announces this to the reader.
func (q *Query) reset(head proto.Record) *proto.Gap {
	gap := Reset(q.Room, q.Since, headOf(head))
	q.Since, q.Stream, q.Before, q.Epoch, q.At = 0, 0, 0, "", time.Time{}
	return gap
}

// Reset returns a gap for a reader that has received a room's events up to since, and that now
// receives another history. The gap says which closes were undone. If the room is open, these are
// all closes up to the head. If the room is closed, the head is the close that still holds.
func Reset(room proto.Room, since uint64, head Head) *proto.Gap {
	gap := &proto.Gap{Room: room, From: since + 1, Reason: proto.GapReset, Epoch: head.Epoch, Seq: head.Seq}
	if head.Closed && gap.Seq > 0 {
		gap.Seq--
	}
	return gap
}

// leaderAgrees reports whether the stream's leader has the record after which q continues.
func leaderAgrees(ctx context.Context, l *Log, q Query) (bool, error) {
	head, found, err := l.Last(ctx, q.Room)
	if err != nil {
		return false, err
	}
	if found && head.Seq >= q.Since {
		var p Page
		w := want{room: q.Room, from: q.Since, to: q.Since, limit: 1, bytes: MaxPageBytes, leader: true}
		if err := l.fill(ctx, &p, &w, head); err != nil {
			return false, err
		}
		if len(p.Records) > 0 && p.Records[0].Seq == q.Since && !q.differs(p.Records[0]) {
			return true, nil
		}
	}
	return false, l.confirmLeader(ctx)
}

// fill reads the records that w describes into p. It asks any replica first, and then the
// leader.
func (l *Log) fill(ctx context.Context, p *Page, w *want, head proto.Record) (err error) {
	if w.from > w.to {
		return nil
	}
	for try := 0; ; try++ {
		p.Records, err = l.read(ctx, w, head, w.leader || try == staleRetries)
		if w.beforeStream > 0 && (len(p.Records) == 0 || p.Records[0].Seq != w.from) {
			w.beforeStream = 0 // the log has changed, so search for the position
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
		if _, err := newer(ctx, l, p, w); err != nil { // a deleted record is not a hole
			return err
		}
	}
}

// want describes the part of a room's log that a page needs.
type want struct {
	room         proto.Room
	limits       *proto.Restrictions // restrictions of the room: read deleted records as stubs
	from, to     uint64              // seqs of the first and the last record; a limit may have removed the first
	beforeStream uint64              // stream sequence of the record before the first; 0 = unknown
	check        bool                // also read the record before the first, if it exists
	before       *proto.Record       // the record before the first, if it was read
	after        time.Time           // only records that are later than this time
	limit        int
	leader       bool // ask only the leader
	bytes        int  // the most payload bytes
	backward     bool // if the limits do not allow all records, keep the newest ones instead of the oldest
}

// want returns the part of the log that the query describes. The log ends with head.
func (q Query) want(head proto.Record) want {
	w := want{room: q.Room, from: 1, to: head.Seq, limit: q.Limit, bytes: q.Bytes}
	if q.Before > 0 {
		w.to = min(w.to, q.Before-1)
	}
	limit := uint64(q.Limit)
	switch {
	case q.HasSince:
		w.from, w.beforeStream = q.Since+1, q.Stream
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

// holds reports whether r belongs on the page.
func (w want) holds(r proto.Record) bool {
	return r.Seq >= w.from && r.Seq <= w.to && (w.after.IsZero() || r.State.At.After(w.after))
}

// finish removes the records that exceed the limits of the page, and sets Gap and More. If promised
// is true, the reader expects all records from w.from on, so missing records are a gap.
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

// fitting returns how many of the records fit on one page, at least one.
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

// errStale is the error for an answer that lacks existing records.
var errStale = errors.New("the answering replica is behind")

// read returns the records that w describes, without holes, at least as many as a page needs. It
// begins with the first record that still exists. If even the leader lacks a record, read ends
// before this hole. Then the next page begins with a gap.
func (l *Log) read(ctx context.Context, w *want, head proto.Record, byLeader bool) ([]proto.Record, error) {
	if w.from == head.Seq && w.to == head.Seq && !w.check {
		return withStubs([]proto.Record{head}, head.Seq-1, w.limits), nil
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
	seen := uint64(0) // seq of the last record that was read
	bytes := 0        // payload bytes of the records in out
	full := func() bool { return len(out) >= w.limit || bytes >= w.bytes }
	for seen < w.to && !full() {
		records, after, err := next(ctx, w.room, from, min(about, maxBatch), w.bytes-bytes)
		if err != nil {
			return nil, err
		}
		for _, r := range withStubs(records, seen, w.limits) {
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

// place returns the stream sequence from which to read a page that begins with seq. For the
// first page of a room, it returns the beginning of the stream. Reading from there costs the
// server a single look-up in its index. From any other position, the server counts the messages
// in the rest of a block.
func place(seq, pointer uint64) uint64 {
	if seq == 1 {
		return 1
	}
	return max(pointer, 1)
}

// seek follows the pointers from page to page, backwards. It returns a stream sequence at or
// before the first record of w, and roughly how many records must be read from there.
func seek(ctx context.Context, w want, head proto.Record, next reader) (from uint64, about int, err error) {
	first, end := w.from, min(w.to, w.from+uint64(w.limit)-1)
	if w.check {
		first--
	}
	if w.beforeStream > 0 {
		return w.beforeStream + first - w.from + 1, w.limit, nil
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

// begin returns the first seq of the page that contains seq.
func begin(seq uint64) uint64 { return (seq-1)/proto.PageSize*proto.PageSize + 1 }

// reader reads and opens up to n records of the room, beginning at the stream sequence from. It
// stops after the record with which the payloads exceed the given bytes. It also returns the stream
// sequence from which to continue. If there are no records, this sequence is from.
type reader func(ctx context.Context, room proto.Room, from uint64, n, bytes int) ([]proto.Record, uint64, error)

// at returns the room's first record at or after the given stream sequence. The sequence must be
// below the stream sequence of the head.
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

// batch is a reader that asks any replica.
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

// single is a reader that asks the leader for one record.
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

// records parses and opens messages. It skips messages that are not records.
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
