package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/roomsvc/room"
	"roomcast/roomsvc/stream"
)

// Bounds for reading rooms from the log.
const (
	maxLoading = 256 // rooms of one partition that are being read; commands for further rooms are refused as overloaded
	maxWaiting = 256 // commands that wait for one room; further commands are refused as overloaded
	readers    = 32  // reads of one instance at a time
)

// reading is the result of reading a room from the log during a term.
type reading struct {
	term *term
	to   proto.Room
	room *room.Room
	err  error
}

// load reads a room from the log and passes it to the partition's goroutine.
func (t *term) load(ctx context.Context, to proto.Room) {
	p, s := t.p, t.p.s
	s.tasks.Go(func() {
		r := reading{term: t, to: to}
		select {
		case s.readers <- struct{}{}:
			r.room, r.err = t.readRoom(ctx, to)
			<-s.readers
		case <-ctx.Done():
			return
		}
		select {
		case p.read <- r:
		case <-ctx.Done():
		}
	})
}

// readRoom rebuilds a room from its newest record, its snapshot and the keys of its recent records.
// A read fails if the replica that answers lacks a record that the term's fence knows.
func (t *term) readRoom(ctx context.Context, to proto.Room) (*room.Room, error) {
	newest, err := t.readNewest(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("read room: %w", err)
	}
	fence, err := t.takeSnapshots(ctx)
	if err != nil {
		return nil, fmt.Errorf("read room: %w", err)
	}
	r := room.New(to, t.p.s.rules)
	if newest.Found {
		r = room.Restore(&newest.Record, t.p.s.rules)
	}
	// Records after the newest record may be lost in two cases. The newest record is damaged, or it
	// is from before a loss of the log's end.
	truncated := newest.Damaged || newest.Record.Stream <= t.fence.Cut()
	if truncated {
		r.Renew()
	}
	if !newest.Found || truncated || newest.Record.State.Act > 0 {
		if err := t.recall(ctx, fence, r, to, &newest); err != nil {
			return nil, fmt.Errorf("read room: %w", err)
		}
	}
	if limits := r.Deleted(); limits != nil && newest.Found {
		t.eraseLeft(ctx, to, limits)
	}
	if newest.Found {
		if err := t.readKeys(ctx, r, to, &newest); err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
	}
	return r, nil
}

func (t *term) readNewest(ctx context.Context, to proto.Room) (history.Newest, error) {
	ctx, cancel := context.WithTimeout(ctx, t.p.s.cfg.Commit)
	defer cancel()
	f := history.Fence{Marker: t.fence.Marker(), Floor: t.fence.Floor(), Age: t.fence.Age()}
	newest, err := t.fence.Log().Newest(ctx, to, f)
	return newest, lost(err)
}

// lost adds [stream.ErrLost] to an error that says that the fence is outdated. The rest of the
// package checks only for stream.ErrLost.
func lost(err error) error {
	if errors.Is(err, history.ErrFence) {
		return fmt.Errorf("%w: %w", stream.ErrLost, err)
	}
	return err
}

// recall compares the room with its snapshot. An owner writes first the record of an act, then the
// snapshot, and then it acknowledges the act. If only the snapshot has an act, the log has lost the
// act's record, and the snapshot is right. If only the log has an act, the owner died between the
// two writes, and recall writes the snapshot.
func (t *term) recall(ctx context.Context, fence *stream.StateFence, r *room.Room, to proto.Room, newest *history.Newest) error {
	ctx, cancel := context.WithTimeout(ctx, t.p.s.cfg.Commit)
	defer cancel()
	snapshot, found, err := t.fence.Log().SnapshotBehind(ctx, to, fence.Marker())
	damaged := errors.Is(err, history.ErrDamaged)
	if damaged {
		t.p.s.damagedSnapshot(to)
		if !newest.Found || newest.Damaged { // neither the snapshot nor the log shows whether the room is closed
			snapshot = history.LostSnapshot()
			r.Recall(&snapshot)
			return nil
		}
	} else if err != nil {
		return lost(err)
	}
	if found {
		fence.Sweep(to)
	}
	if found && (!newest.Found || snapshot.NewerThan(&newest.Record)) {
		r.Recall(&snapshot)
		return nil
	}
	current := r.Snapshot()
	if found && snapshot.Epoch == current.Epoch && snapshot.Seq >= current.Seq {
		r.Restrict(snapshot.Limits)
		return nil
	}
	limits, _, err := t.fence.Log().Restrict(ctx, to, snapshot.Limits, history.HeadOf(newest.Record))
	if err != nil {
		return lost(err)
	}
	r.Restrict(limits)
	if current.Seq == 0 || damaged { // the next act writes another snapshot
		return nil
	}
	current = r.Snapshot()
	current.Keep(&snapshot)
	return fence.Write(ctx, to, &current)
}

// readKeys makes the room remember the keys of its records that are younger than the window. It
// measures the age of a record by the clock of the NATS server, which all owners share. It begins
// with the newest record and reads backwards.
func (t *term) readKeys(ctx context.Context, r *room.Room, to proto.Room, newest *history.Newest) error {
	type keyed struct {
		rec proto.Record
		age time.Duration
	}
	window := max(t.p.s.rules.Window, r.Slow())
	var records []keyed // newest first
	for before := newest.Record.Seq + 1; before > 1; {
		page, err := t.readPage(ctx, history.Query{Room: to, Before: before, Limit: proto.MaxHistory, Reach: newest.Record.Seq})
		if err != nil {
			return err
		}
		if len(page.Records) == 0 {
			break
		}
		for _, rec := range slices.Backward(page.Records) {
			if age := newest.Now.Sub(rec.Stored); age <= window {
				if rec.Kind != proto.Deleted { // the payload has the key of the deleted message
					rec.Payload = nil // nobody needs the payload, and it may be long
				}
				records = append(records, keyed{rec, age})
			}
		}
		if newest.Now.Sub(page.Records[0].Stored) > window {
			break
		}
		before = page.Records[0].Seq
	}
	now := time.Now()
	for _, k := range slices.Backward(records) {
		r.Remember(&k.rec, now, k.age)
	}
	return nil
}

func (t *term) readPage(ctx context.Context, q history.Query) (history.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, t.p.s.cfg.Commit)
	defer cancel()
	return t.fence.Log().Read(ctx, q)
}

// loaded is called when a room was read from the log. It keeps the room in memory, and applies the
// commands that waited for the room.
func (p *partition) loaded(ctx context.Context, r reading) {
	p.loading--
	if p.term != r.term {
		return
	}
	a := p.term.rooms[r.to]
	waiting := a.waiting
	a.room, a.waiting = r.room, nil
	if r.err == nil {
		if a.report != nil { // first, because the report may begin a new epoch, to which the waiting commands then belong
			p.compare(ctx, *a.report)
			a.report = nil
		}
		now := time.Now()
		for _, c := range waiting {
			if now.Sub(c.since) > maxWait {
				p.s.refuse(c.reply, p.unavailable(stream.ErrUnavailable).Refusal)
				continue
			}
			p.apply(ctx, a, c)
		}
		if p.term == r.term && a.room.Seq() == 0 && !a.room.Renewing() { // gateways have only asked for its state, or its commands were refused
			p.drop(r.to)
		}
		return
	}
	switch { // in these cases the term ends, and the owner takes the partition again
	case errors.Is(r.err, history.ErrGone):
		p.term.end(fmt.Errorf("%w: %w", stream.ErrUnavailable, r.err))
	case errors.Is(r.err, stream.ErrLost): // another instance has the fence, or the marker is damaged
		p.term.end(r.err)
	}
	if ctx.Err() == nil {
		p.s.cfg.Log.Error("read room from log", "room", r.to.String(), "error", r.err)
	}
	p.drop(r.to)
	refusal := p.unavailable(r.err).Refusal
	if why, _ := history.Unreadable(r.err); why != nil {
		refusal = why
	}
	for _, c := range waiting {
		p.s.refuse(c.reply, refusal)
	}
}

// drop removes a room from memory.
func (p *partition) drop(room proto.Room) {
	delete(p.term.rooms, room)
	p.active.Store(int64(len(p.term.rooms)))
}
