package history

import (
	"context"

	"roomcast/proto"
)

const (
	maxProbes = 16 // the most records that a backward read fetches to find where its page begins
	maxParts  = 4  // the most reads for one backward page
)

// mark is a known position in a room's log. A read from the stream sequence stream returns the
// record seq first. If this record was removed, it returns the record after it first.
type mark struct{ seq, stream uint64 }

// backward reads the newest records of a range. The stream can only be read forward, and the
// stream sequence is known only for some seqs. If the records are small, backward reads all of
// them from the beginning of a page. If they are large, this would read much more than the
// result needs. Then backward searches for the first record, and reads one record in each step.
// Each call of Read has its own backward.
type backward struct {
	room     proto.Room
	limits   *proto.Restrictions
	next     reader
	byLeader bool

	marks []mark
	bytes int  // bytes of the payloads read so far; before the first read: of the newest record's payload
	count int  // number of these payloads
	guess bool // no record was read yet, so bytes and count are only a guess
	large bool // search for the first record instead of reading from the beginning of a page
}

// readBack returns the newest records of w. If there are older records that do not fit, it
// raises w.from to the first record that it returns.
func readBack(ctx context.Context, w *want, head proto.Record, next reader, byLeader bool) (out []proto.Record, err error) {
	b := backward{room: w.room, limits: w.limits, next: next, byLeader: byLeader, marks: []mark{{1, 1}}}
	b.learn(head)
	b.bytes, b.count, b.guess = len(head.Payload), 1, true
	b.large = b.bytes*w.limit > 2*w.bytes
	bytes, to := 0, w.to
	for range maxParts {
		from := max(w.from, to-min(to, uint64(w.limit-len(out)))+1)
		part, err := b.newest(ctx, from, to, w.bytes-bytes)
		if err != nil {
			return nil, err
		}
		if len(part) == 0 {
			return out, nil // a limit has removed the older records
		}
		if last := part[len(part)-1].Seq; last != to {
			if !byLeader {
				return nil, errStale
			}
			if len(out) > 0 {
				break // the page ends at a hole, and the next page begins before the hole
			}
		}
		for i := range part {
			bytes += len(part[i].Payload)
		}
		out = append(part, out...)
		first := out[0].Seq
		if first == w.from || first > from && !b.large {
			return out, nil
		}
		if to = first - 1; len(out) == w.limit || bytes >= w.bytes/2 {
			break
		}
	}
	w.from = out[0].Seq
	return out, nil
}

// newest returns the records in the given range of seqs. If they do not fit into the given
// bytes, it returns the newest of them.
func (b *backward) newest(ctx context.Context, from, to uint64, bytes int) ([]proto.Record, error) {
	if b.large {
		from = max(from, b.fitting(to, bytes))
	}
	for probes := 0; ; {
		low, high := b.around(from)
		if probes < maxProbes && high.stream > low.stream+1 && !b.near(from-low.seq, bytes) {
			at, err := b.probe(ctx, low, high, from, probes%3 == 2)
			if err != nil {
				return nil, err
			}
			b.learn(at)
			probes++
			continue
		}
		out, seen, err := b.read(ctx, low, from, to, 2*bytes)
		if err != nil || seen >= to {
			return out, err
		}
		b.large = true
		from = max(seen+1, b.fitting(to, bytes))
	}
}

// fitting returns the seq from which the records up to the seq to have about the given number of
// bytes. It is an estimate.
func (b *backward) fitting(to uint64, bytes int) uint64 {
	n := max(1, bytes*b.count/max(1, b.bytes))
	return to - min(to, uint64(n)) + 1
}

// took adds the records and bytes of a read to the counts.
func (b *backward) took(records, bytes int) {
	if b.guess && records > 0 {
		b.bytes, b.count, b.guess = 0, 0, false
	}
	b.bytes += bytes
	b.count += records
}

// near reports whether reading this many records is cheap, even if the page does not need them.
func (b *backward) near(records uint64, bytes int) bool {
	if !b.large {
		return records <= proto.PageSize
	}
	return records*uint64(b.bytes)/uint64(max(b.count, 1)) <= uint64(bytes/4)
}

// around returns the known marks before and after a seq.
func (b *backward) around(seq uint64) (low, high mark) {
	for _, m := range b.marks {
		if m.seq <= seq && m.seq >= low.seq {
			low = m
		}
		if m.seq > seq && (high.seq == 0 || m.seq < high.seq) {
			high = m
		}
	}
	return low, high
}

// learn adds marks for r, for its page and for the page before.
func (b *backward) learn(r proto.Record) {
	b.marks = append(b.marks, mark{r.Seq, r.Stream})
	own := begin(r.Seq)
	if r.State.Start > 0 {
		b.marks = append(b.marks, mark{own, place(own, r.State.Start)})
	}
	if own > 1 && r.State.Page > 0 {
		page := begin(own - 1)
		b.marks = append(b.marks, mark{page, place(page, r.State.Page)})
	}
}

// probe reads one record between two marks: in the middle, or at the estimated position of the
// record seq. The estimate assumes that all records have the same distance.
func (b *backward) probe(ctx context.Context, low, high mark, seq uint64, middle bool) (proto.Record, error) {
	span := high.stream - low.stream
	step := span / 2
	if !middle {
		step = uint64(float64(span) * float64(seq-low.seq) / float64(high.seq-low.seq))
	}
	where := low.stream + min(max(step, 1), span-1)
	r, err := at(ctx, b.room, where, b.next)
	if err != nil {
		return r, err
	}
	b.marks = append(b.marks, mark{r.Seq, where})
	b.took(1, len(r.Payload))
	return r, nil
}

// read returns the records in the given range of seqs. It begins at the mark low, which is before
// this range. It stops when the payloads have more than most bytes. The result seen is the last seq
// that was read. If there are no more records, it is the end of the range.
func (b *backward) read(ctx context.Context, low mark, from, to uint64, most int) (out []proto.Record, seen uint64, err error) {
	where, bytes, count := low.stream, 0, 0
	defer func() { b.took(count, bytes) }()
	seen = low.seq - 1
	for seen < to {
		n := int(min(to-seen, maxBatch))
		records, after, err := b.next(ctx, b.room, where, n, most-bytes+n*recordBytes)
		if err != nil {
			return nil, seen, err
		}
		for _, r := range withStubs(records, seen, b.limits) {
			bytes += len(r.Payload)
			seen = r.Seq
			if r.Seq < from || r.Seq > to {
				continue
			}
			if n := len(out); n > 0 && r.Seq != out[n-1].Seq+1 {
				if !b.byLeader {
					return nil, seen, errStale
				}
				out = out[:0] // the page begins after the hole
			}
			out = append(out, r)
		}
		count += len(records)
		if after == where {
			break
		}
		where = after
		if bytes > most && seen < to {
			b.learn(records[len(records)-1])
			b.marks = append(b.marks, mark{seen + 1, after})
			return nil, seen, nil
		}
	}
	if seen < to && !b.byLeader {
		return nil, seen, errStale
	}
	return out, max(seen, to), nil
}
