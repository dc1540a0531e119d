package events

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/roomsvc/stream"
)

// eraserName is the key of the eraser's position.
const eraserName = "erase"

// eraser erases the copies of deleted messages and of their edits. It is a [consumer]. When it
// reads a deletion, all copies of the message are earlier in the stream, or gone.
//
// Before it erases a copy, it stores a stub under the copy's sequence, for webhooks that have not
// read the copy yet.
type eraser struct{ e *Events }

func (*eraser) reset() {}

func (x *eraser) take(ctx context.Context, after position) (uint64, error) {
	list, err := x.e.entries(ctx, after.seq)
	for i := 0; i < len(list) && err == nil; i++ {
		if err = x.look(ctx, &list[i]); err == nil {
			after.seq = list[i].Seq
		}
	}
	return after.seq, err
}

// look erases the copies of what a record deletes, if the record is a deletion.
func (x *eraser) look(ctx context.Context, entry *history.Entry) error {
	rec, ok, err := record(entry)
	if !ok || err != nil || rec.Kind != proto.Deleted {
		return nil // it is unknown what an unreadable record deletes
	}
	event, err := x.e.event(entry, &rec)
	if err != nil {
		x.e.svc.Log.Warn("erase copies of a deleted message", "room", rec.Room.String(), "error", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	from, err := x.find(ctx, entry, rec.State.Epoch, event.Of)
	for err == nil && from < entry.Seq {
		from, err = x.erase(ctx, entry, from, &event, rec.State.Epoch)
	}
	return err
}

// find returns a sequence before all copies of the message and its edits: the smallest one that is
// behind the room's records from before the message.
func (x *eraser) find(ctx context.Context, by *history.Entry, epoch string, of uint64) (uint64, error) {
	lo, hi := uint64(1), by.Seq
	for lo < hi {
		mid := lo + (hi-lo)/2
		next, err := x.e.stored.Next(ctx, by.Subject, mid, 1, 0)
		if err != nil {
			return 0, err
		}
		if len(next) == 0 {
			return hi, nil // by itself is gone, and so is everything before it
		}
		rec, ok, _ := record(&next[0])
		if next[0].Seq >= hi || ok && rec.State.Epoch == epoch && rec.Seq >= of {
			hi = mid
		} else {
			lo = next[0].Seq + 1
		}
	}
	return lo, nil
}

// erase erases the copies among the next records of the room, and returns the sequence to continue
// from.
func (x *eraser) erase(ctx context.Context, by *history.Entry, from uint64, event *proto.Event, epoch string) (uint64, error) {
	list, err := x.e.stored.Next(ctx, by.Subject, from, batchCount, batchBytes)
	if err != nil || len(list) == 0 {
		return by.Seq, err
	}
	for i := range list {
		entry := &list[i]
		rec, ok, err := record(entry)
		if entry.Seq >= by.Seq {
			break
		}
		if !ok || err != nil || rec.State.Epoch != epoch {
			continue
		}
		left := proto.Stub{Author: event.Author.ID}
		switch {
		case rec.Seq == event.Of:
			left.At = event.Author.At.UnixMilli()
		case rec.Kind == proto.Edited:
			if edit, err := x.e.event(entry, &rec); err != nil || edit.Of != event.Of {
				continue
			}
		default:
			continue
		}
		note := nats.NewMsg(proto.EventErasedSubject(entry.Seq))
		note.Header.Set(proto.HeaderKind, typeOf(rec.Kind))
		note.Data = left.AppendStub(nil, rec.Room, rec.Seq)
		if _, err := x.e.js.PublishMsg(ctx, note); err != nil {
			return 0, fmt.Errorf("store stub: %w", err)
		}
		if err := stream.Erase(ctx, x.e.nc, proto.EventsStream, entry.Seq); err != nil {
			return 0, err
		}
		x.e.metrics.erased.Inc()
	}
	return list[len(list)-1].Seq + 1, nil
}

// event decrypts a record and returns its event.
func (e *Events) event(entry *history.Entry, rec *proto.Record) (proto.Event, error) {
	if err := e.svc.Keys.OpenRecord(rec, entry.Header.Get(proto.HeaderRecord)); err != nil {
		return proto.Event{}, err
	}
	return proto.ParseEvent(rec.Payload)
}

func typeOf(kind proto.EventKind) string {
	if kind == proto.Message {
		return typeMessage
	}
	return string(kind)
}
