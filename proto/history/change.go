package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"roomcast/proto"
)

// withStubs returns the records, with stubs in place of deleted records. The parameter after is the
// seq of the record before the first.
func withStubs(records []proto.Record, after uint64, limits *proto.Restrictions) []proto.Record {
	if limits == nil || len(limits.Deleted) == 0 {
		return records
	}
	out := make([]proto.Record, 0, len(records))
	for _, r := range records {
		first := r.Seq
		for first > after+1 && limits.IsDeleted(first-1) {
			first--
		}
		for ; first < r.Seq; first++ {
			out = append(out, stub(&r, first, limits.Deleted[first]))
		}
		if after = r.Seq; limits.IsDeleted(r.Seq) { // the record was deleted, but is still in the log
			at := r.Stream
			r = stub(&r, r.Seq, limits.Deleted[r.Seq])
			r.Stream = at
		}
		out = append(out, r)
	}
	return out
}

// stub returns a stub for the record with the given seq. The parameter r is this record or a
// later one. A stub has no stream sequence, but withStubs may set one.
func stub(r *proto.Record, seq uint64, s proto.Stub) proto.Record {
	if s.At == 0 {
		s.At = r.State.At.UnixMilli()
	}
	return proto.Record{
		Room: r.Room, Seq: seq, Stored: r.Stored, Payload: s.AppendStub(nil, r.Room, seq), Text: proto.Span{Form: proto.SpanNone},
		State: proto.State{Epoch: r.State.Epoch, At: time.UnixMilli(s.At).UTC(), Closed: r.State.Closed, Act: r.State.Act},
	}
}

// Refresh brings an older page up to date. It applies the deletions and edits that were stored
// after the page was read.
func (l *Log) Refresh(ctx context.Context, room proto.Room, p *Page) error {
	snapshot, found, err := l.Snapshot(ctx, room)
	if err != nil || !found || snapshot.Epoch != p.Head.Epoch || p.Head.Limits != nil && snapshot.Seq <= p.Head.Limits.Seq {
		return err
	}
	p.Head.Limits = snapshot.Limits
	p.Records = withStubs(p.Records, 0, p.Head.Limits)
	return showEdits(ctx, l, room, p)
}

// newer reads the room's snapshot again, after a page was read. It reports whether the snapshot
// includes acts that were not applied to the page.
func newer(ctx context.Context, l *Log, p *Page, w *want) (changed bool, err error) {
	snapshot, found, err := l.Snapshot(ctx, w.room)
	if errors.Is(err, ErrDamaged) {
		return false, nil
	}
	if err != nil || !found || snapshot.Epoch != p.Head.Epoch || w.limits != nil && snapshot.Seq <= w.limits.Seq {
		return false, err
	}
	p.Head.Limits, w.limits = snapshot.Limits, snapshot.Limits
	return true, nil
}

// showEdits replaces the text of each edited message on a page by its newest text.
func showEdits(ctx context.Context, l *Log, room proto.Room, p *Page) error {
	limits := p.Head.Limits
	if limits == nil || len(limits.Edits) == 0 || limits.Epoch != p.Head.Epoch {
		return nil
	}
	var wanted []uint64
	for i := range p.Records {
		if edit := limits.Edit(p.Records[i].Seq); edit > 0 {
			wanted = append(wanted, edit)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	edits, err := findEdits(ctx, l, room, p, wanted)
	if err != nil {
		return err
	}
	for i := range p.Records {
		r := &p.Records[i]
		edit, found := edits[limits.Edit(r.Seq)]
		if !found { // the log has lost the edit, or a moderator has deleted the message meanwhile
			continue
		}
		e, err := proto.ParseEvent(r.Payload)
		if err != nil {
			return fmt.Errorf("read edited message: %w", err)
		}
		e.Content.Kind, e.Content.Body, e.Changed = edit.Content.Kind, edit.Content.Body, edit.At
		r.Payload, r.Text = e.AppendRecord(nil)
	}
	return nil
}

// findEdits returns the events of the edits with the wanted seqs, by seq.
func findEdits(ctx context.Context, l *Log, room proto.Room, p *Page, wanted []uint64) (map[uint64]proto.Event, error) {
	slices.Sort(wanted)
	found := make(map[uint64]proto.Event, len(wanted))
	add := func(records []proto.Record) error {
		for i := range records {
			if r := &records[i]; r.Kind == proto.Edited {
				e, err := proto.ParseEvent(r.Payload)
				if err != nil {
					return fmt.Errorf("read edit: %w", err)
				}
				found[r.Seq] = e
			}
		}
		return nil
	}
	if err := add(p.Records); err != nil {
		return nil, err
	}
	for _, seq := range wanted {
		if _, have := found[seq]; have {
			continue
		}
		page, err := l.Read(ctx, Query{Room: room, Since: seq - 1, HasSince: true, Reach: seq, Limit: DefaultLimit, own: true, limits: p.Head.Limits})
		if err != nil {
			return nil, err
		}
		if err := add(page.Records); err != nil {
			return nil, err
		}
	}
	return found, nil
}
