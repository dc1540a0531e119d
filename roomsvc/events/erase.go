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

// eraserName is the key under which the eraser stores its position.
const eraserName = "erase"

// eraser erases the copies of deleted messages and of their edits from ROOMEVENTS. It is a
// [consumer]. The stream has the copies of a message before the event of its deletion, so the
// eraser looks only at earlier events.
//
// Before it erases a copy, it stores a stub under the copy's sequence. Webhooks that have not read
// the copy yet post the stub instead.
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

// look erases the copies of a message if the entry is the event of the message's deletion.
func (x *eraser) look(ctx context.Context, entry *history.Entry) error {
	rec, ok, err := record(entry)
	if !ok || err != nil || rec.Kind != proto.Deleted {
		return nil // an unreadable record may be a deletion, but does not show of which message
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

// find returns the stream sequence at which the search for copies must begin. It uses binary
// search. All records of the room before that sequence are older than the message with seq of. The
// entry by is the deletion.
func (x *eraser) find(ctx context.Context, by *history.Entry, epoch string, of uint64) (uint64, error) {
	lo, hi := uint64(1), by.Seq
	for lo < hi {
		mid := lo + (hi-lo)/2
		next, err := x.e.stored.Next(ctx, by.Subject, mid, 1, 0)
		if err != nil {
			return 0, err
		}
		if len(next) == 0 {
			return hi, nil // the stream has dropped even the deletion, and so all copies before the deletion
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

// erase erases the copies among the next records of the room. It returns the sequence from which
// the next call must continue.
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
		left := proto.Stub{Author: event.Author.ID, At: rec.State.At.UnixMilli()}
		switch {
		case rec.Seq == event.Of:
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
