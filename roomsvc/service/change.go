package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/roomsvc/stream"
)

// found is the result of looking in the log for the message that a command edits or deletes.
type found struct {
	record *proto.Record // without its payload; nil = not in the log
	secret bool          // members do not see the key of the record
}

// lookup is a command that must wait, because the rules need more information about it. It also has
// the result. For an edit or a delete, the message is read from the log. For a kick, the gateways
// are asked whether the member is in the room.
type lookup struct {
	term *term
	c    command
	err  error // from reading the message to edit or delete
}

// find starts a goroutine that reads the message to edit or delete from the log, and then passes
// the command back to the partition.
func (p *partition) find(ctx context.Context, c command, seq uint64) {
	if p.finding >= maxLoading {
		p.s.refuse(c.reply, overloaded("too many messages are being read from the log"))
		return
	}
	p.finding++
	t := p.term
	p.s.tasks.Go(func() {
		l := lookup{term: t, c: c}
		select {
		case p.s.readers <- struct{}{}:
			l.c.found, l.err = t.findRecord(ctx, c.to, seq)
			<-p.s.readers
		case <-ctx.Done():
			return
		}
		select {
		case p.found <- l:
		case <-ctx.Done():
		}
	})
}

func (t *term) findRecord(ctx context.Context, room proto.Room, seq uint64) (*found, error) {
	page, err := t.readPage(ctx, history.Query{Room: room, Since: seq - 1, HasSince: true, Reach: seq, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(page.Records) == 0 || page.Records[0].Seq != seq || page.Records[0].Stream == 0 {
		return &found{}, nil
	}
	rec := page.Records[0]
	secret := rec.HidesKey()
	rec.Payload = nil // nobody needs the payload, and it may be long
	return &found{&rec, secret}, nil
}

// lookedUp is called when the lookup of a command is done. It applies the command or, because of
// the result, refuses it.
func (p *partition) lookedUp(ctx context.Context, l lookup) {
	p.finding--
	switch {
	case l.err != nil:
		p.s.cfg.Log.Warn("read message to be changed", "room", l.c.to.String(), "error", l.err)
		p.s.refuse(l.c.reply, p.unavailable(stream.ErrUnavailable).Refusal)
	case p.term != l.term:
		p.s.refuse(l.c.reply, p.unavailable(stream.ErrLost).Refusal)
	default:
		p.begin(ctx, l.c)
	}
}

// erase removes a deleted record from the stream, and its bytes from the files of the NATS servers.
// It does nothing if the log no longer has the record.
func (t *term) erase(ctx context.Context, room proto.Room, seq uint64) error {
	page, err := t.fence.Log().Read(ctx, history.Query{Room: room, Since: seq - 1, HasSince: true, Reach: seq, Limit: 1})
	if err == nil && len(page.Records) > 0 && page.Records[0].Seq == seq && page.Records[0].Stream > 0 {
		err = t.fence.Erase(ctx, page.Records[0].Stream)
	}
	if err != nil {
		return fmt.Errorf("%w: erase record: %w", stream.ErrUnavailable, lost(err))
	}
	return nil
}

// eraseLeft erases deleted records that an earlier owner did not erase before it died. It works in
// the background, for at most a minute.
func (t *term) eraseLeft(ctx context.Context, room proto.Room, limits *proto.Restrictions) {
	t.p.s.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		deleted := slices.Sorted(maps.Keys(limits.Deleted))
		for from := deleted[0]; ; {
			page, err := t.fence.Log().Read(ctx, history.Query{Room: room, Since: from - 1, HasSince: true, Limit: proto.MaxHistory})
			for i := 0; i < len(page.Records) && err == nil; i++ {
				if r := &page.Records[i]; limits.IsDeleted(r.Seq) && r.Stream > 0 {
					err = t.fence.Erase(ctx, r.Stream)
				}
			}
			if err != nil {
				t.p.s.cfg.Log.Warn("erase deleted records", "room", room.String(), "error", err)
				return
			}
			if !page.More || len(page.Records) == 0 {
				return
			}
			if from = page.Records[len(page.Records)-1].Seq + 1; from > deleted[len(deleted)-1] {
				return
			}
		}
	})
}
