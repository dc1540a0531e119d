package reads

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/history"
)

// retryTime is the time between two attempts to repeat a failed read.
const retryTime = 5 * time.Second

// failed describes a read that failed because this gateway cannot read a record. It is
// immutable.
type failed struct {
	room  proto.Room
	err   error
	again func(context.Context) error
}

// PageFailed reports that a read of q has failed with err. If this gateway cannot read other
// rooms either, Readable returns an error until a repetition of the read succeeds.
func (r *Reader) PageFailed(q history.Query, err error) {
	r.readFailed(failed{q.Room, err, func(ctx context.Context) error {
		_, err := r.Page(ctx, q)
		return err
	}})
}

// HeadFailed is like PageFailed, for a read of a room's head.
func (r *Reader) HeadFailed(room proto.Room, err error) {
	r.readFailed(failed{room, err, func(ctx context.Context) error {
		_, _, err := r.log.Last(ctx, room)
		return err
	}})
}

func (r *Reader) readFailed(f failed) {
	why, everywhere := history.Unreadable(f.err)
	if why == nil || everywhere && !r.failed.CompareAndSwap(nil, &f) {
		return
	}
	r.cfg.Log.Error("this gateway cannot read the log", "room", f.room.String(), "error", f.err)
}

// retryFailed repeats the failed read, if there is one, until ctx ends.
func (r *Reader) retryFailed(ctx context.Context) {
	ticker := time.NewTicker(retryTime)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f := r.failed.Load()
		if f == nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, readTime)
		err := f.again(limited)
		cancel()
		if err == nil {
			r.failed.Store(nil)
			r.cfg.Log.Info("this gateway can read the log again", "room", f.room.String())
		}
	}
}

// Readable returns nil if the gateway can read the log. Otherwise it returns the reason.
func (r *Reader) Readable() error {
	if f := r.failed.Load(); f != nil {
		return fmt.Errorf("read log of room %s: %w", f.room, f.err)
	}
	return nil
}

// Unreadable returns the refusal for clients if err means that this gateway cannot read a
// record. It returns nil for other errors.
func Unreadable(err error) *proto.Refusal {
	why, _ := history.Unreadable(err)
	return why
}

// Refusal returns the refusal for clients after a failed read. The caller logs the cause.
func Refusal(err error) error {
	var r *proto.Refusal
	switch {
	case errors.As(err, &r):
		return r
	case Unreadable(err) != nil:
		return Unreadable(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrStreamNotFound):
		return Unavailable()
	}
	return proto.AsRefusal(err)
}

// retryAfter is how long a client is asked to wait before it tries again.
const retryAfter = time.Second

// Unavailable returns the refusal for a read when the log cannot be reached.
func Unavailable() error {
	return proto.Refuse(proto.Unavailable, "the log cannot be reached now; try again").After(retryAfter)
}

// Overloaded returns the refusal for a read when too many other reads are waiting.
func Overloaded() error {
	return proto.Refuse(proto.Overloaded, "too many reads of the log are waiting; try again").After(retryAfter)
}

func errNoMemory() error {
	return proto.Refuse(proto.Overloaded, "this gateway has no free memory now; try again").After(retryAfter)
}
