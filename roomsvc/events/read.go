package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/history"
)

const (
	pollPause  = 100 * time.Millisecond // pause after a read that found no new events
	saveEvery  = time.Second            // shortest time between two writes of a position
	batchCount = 100                    // events in one read
	batchBytes = 256 << 10              // bytes in one read, or the bytes of one event if it is larger
	leader     = 0                      // the owner of this partition runs the readers
)

// position says up to which event a reader has handled the stream.
type position struct {
	created time.Time // when the stream was made; a new stream of the same name has other sequences
	seq     uint64    // stream sequence of the last handled event
}

func (p position) encode() []byte { return fmt.Appendf(nil, "%d %d", p.created.UnixMilli(), p.seq) }

// after parses a stored position and returns its stream sequence. It returns 0 if the position
// belongs to another stream.
func (p position) after(stored []byte) uint64 {
	var created int64
	var seq uint64
	if _, err := fmt.Sscanf(string(stored), "%d %d", &created, &seq); err != nil || created != p.created.UnixMilli() {
		return 0
	}
	return seq
}

// consumer handles events. A reader makes one call at a time.
type consumer interface {
	// take handles the next events after a position, and returns the sequence of the last handled
	// event. If there are no new events, it returns after.seq.
	take(ctx context.Context, after position) (uint64, error)
	// reset says that another instance may have handled events since the last call of take.
	reset()
}

// reader reads the stream for one consumer. Each instance has such a reader, but only the leader's
// reader works. Two instances may believe for a moment that they lead. Then both handle the same
// events in the same order, but the slower instance cannot store its position.
type reader struct {
	e        *Events
	name     string
	at       position
	kv       jetstream.KeyValue
	revision uint64 // revision of the stored position in the bucket; 0 = no position is stored
	stored   uint64 // the sequence in the stored position
	saved    time.Time
}

// read runs a reader that passes events to c, until ctx ends.
func (e *Events) read(ctx context.Context, name string, c consumer) {
	r := &reader{e: e, name: name}
	said := time.Time{}
	for ctx.Err() == nil {
		err := r.lead(ctx, c)
		if err != nil && ctx.Err() == nil && time.Since(said) > time.Minute {
			said = time.Now()
			e.svc.Log.Warn("read events for applications; trying again", "reader", name, "error", err)
		}
		wait(ctx, retryPause)
	}
}

// lead handles events while this instance leads, that is, while it owns the partition leader.
func (r *reader) lead(ctx context.Context, c consumer) error {
	if !r.e.svc.Owns(leader) {
		return nil
	}
	c.reset()
	if err := r.load(ctx); err != nil {
		return err
	}
	// After a reconnect, read the position again, because NATS may have been restored from a backup
	// meanwhile.
	reconnects := r.e.nc.Stats().Reconnects
	for r.e.svc.Owns(leader) && ctx.Err() == nil && r.e.nc.Stats().Reconnects == reconnects {
		next, err := c.take(ctx, r.at)
		if err != nil {
			return errors.Join(err, r.save(ctx))
		}
		idle := next == r.at.seq
		r.at.seq = next
		if time.Since(r.saved) >= saveEvery {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
		if idle {
			wait(ctx, pollPause)
		}
	}
	return r.save(ctx)
}

func (r *reader) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := r.e.js.Stream(ctx, proto.EventsStream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", proto.EventsStream, err)
	}
	r.at = position{created: s.CachedInfo().Created}
	if r.kv, err = r.e.openBucket(ctx, r.e.js); err != nil {
		return err
	}
	r.revision, r.saved = 0, time.Now()
	entry, err := r.kv.Get(ctx, r.name)
	if err == nil {
		r.revision, r.at.seq = entry.Revision(), r.at.after(entry.Value())
	} else if !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("read position: %w", err)
	}
	r.stored = r.at.seq
	return nil
}

// save stores the position. It fails if another instance has stored a position since.
func (r *reader) save(ctx context.Context) error {
	r.saved = time.Now()
	if r.stored == r.at.seq {
		return nil
	}
	// Store the position even after ctx has ended. Otherwise the next reader would post some events
	// again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	revision, err := r.kv.Update(ctx, r.name, r.at.encode(), r.revision)
	if err != nil {
		return fmt.Errorf("store position: %w", err)
	}
	r.revision, r.stored = revision, r.at.seq
	return nil
}

// entries returns the next events after a sequence.
func (e *Events) entries(ctx context.Context, after uint64) ([]history.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return e.stored.Next(ctx, "room.evt.>", after+1, batchCount, batchBytes)
}

// record returns the log's record, with the payload as stored, if the entry is a copy of a record.
// Otherwise ok is false.
func record(entry *history.Entry) (rec proto.Record, ok bool, err error) {
	subject, ok := proto.LogSubjectOfEvent(entry.Subject)
	if !ok {
		return rec, false, nil
	}
	rec, err = proto.ParseRecord(subject, entry.Header, entry.Data)
	return rec, err == nil, err
}
