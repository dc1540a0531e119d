package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/roomsvc/room"
	"roomcast/roomsvc/stream"
)

// Bounds of reading rooms from the log.
const (
	maxLoading = 256 // rooms of one partition that are being read; commands for more are overloaded
	maxWaiting = 256 // commands that wait for one room; more are overloaded
	readers    = 32  // of one instance, at a time
)

// reading is a room as it was read from the log for a tenure.
type reading struct {
	tenure *tenure
	to     proto.Room
	room   *room.Room
	err    error
}

// load reads a room from the log and hands it to the partition's goroutine.
func (s *Service) load(ctx context.Context, p *partition, t *tenure, to proto.Room) {
	s.tasks.Go(func() {
		r := reading{tenure: t, to: to}
		select {
		case s.readers <- struct{}{}:
			r.room, r.err = s.readRoom(ctx, to)
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

// readRoom rebuilds a room from its newest record, which the stream's leader returns, and
// from the keys of the records of the last minutes.
func (s *Service) readRoom(ctx context.Context, to proto.Room) (*room.Room, error) {
	// Each answer has its time, for a busy room with long messages has several pages of keys.
	limited, cancel := context.WithTimeout(ctx, s.cfg.Commit)
	defer cancel()
	last, found, err := s.log.Last(limited, to)
	if err != nil {
		return nil, fmt.Errorf("read room: %w", err)
	}
	if !found {
		return room.New(to, s.rules), nil
	}
	r, now := room.Restore(&last, s.rules), time.Now()
	if now.Sub(last.State.At) > s.rules.Window {
		return r, nil
	}
	q := history.Query{Room: to, After: now.Add(-s.rules.Window), Limit: proto.MaxHistory, Reach: last.Seq}
	for seq := uint64(0); seq < last.Seq; {
		page, err := s.readPage(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		if len(page.Records) == 0 {
			break
		}
		for i := range page.Records {
			r.Remember(&page.Records[i], now, now.Sub(page.Records[i].State.At))
		}
		seq = page.Records[len(page.Records)-1].Seq
		q = history.Query{Room: to, Since: seq, HasSince: true, Limit: proto.MaxHistory, Reach: last.Seq}
	}
	return r, nil
}

func (s *Service) readPage(ctx context.Context, q history.Query) (history.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Commit)
	defer cancel()
	return s.log.Read(ctx, q)
}

// loaded takes a room that was read, and what waited for it.
func (p *partition) loaded(ctx context.Context, r reading) {
	p.loading--
	if p.tenure != r.tenure {
		return
	}
	a := p.tenure.rooms[r.to]
	waiting := a.waiting
	a.room, a.waiting = r.room, nil
	if r.err == nil {
		now := time.Now()
		for _, c := range waiting {
			if now.Sub(c.since) > maxWait {
				p.s.refuse(c.msg, p.unavailable(stream.ErrUnavailable).Refusal)
				continue
			}
			p.apply(a, c)
		}
		return
	}
	if ctx.Err() == nil {
		p.s.cfg.Log.Error("room cannot be read from the log", "room", r.to.String(), "error", r.err)
	}
	delete(p.tenure.rooms, r.to)
	p.active.Store(int64(len(p.tenure.rooms)))
	refusal := p.unavailable(r.err).Refusal
	if errors.Is(r.err, proto.ErrNewerSchema) {
		refusal = proto.Refuse(proto.Unsupported, "the room's log was %v", proto.ErrNewerSchema)
	}
	for _, c := range waiting {
		p.s.refuse(c.msg, refusal)
	}
}
