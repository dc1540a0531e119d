package bridge

import (
	"context"
	"fmt"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
)

// unreadTime is how often a read that failed for good is tried again.
const unreadTime = 5 * time.Second

// unread is a read that failed because this gateway cannot read a record. It is immutable.
type unread struct {
	room  proto.Room
	err   error
	again func(context.Context) error
}

// cannotRead is told of a read that failed with err and can be repeated with again. If
// other rooms are affected too, the gateway is not ready until that read succeeds.
func (b *Bridge) cannotRead(room proto.Room, err error, again func(context.Context) error) {
	why, everywhere := history.Unreadable(err)
	if why == nil || everywhere && !b.unread.CompareAndSwap(nil, &unread{room, err, again}) {
		return
	}
	b.cfg.Log.Error("log cannot be read by this gateway", "room", room.String(), "error", err)
}

// watchUnread repeats the read that failed until ctx ends.
func (b *Bridge) watchUnread(ctx context.Context) {
	ticker := time.NewTicker(unreadTime)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		u := b.unread.Load()
		if u == nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, readTime)
		err := u.again(limited)
		cancel()
		if err == nil {
			b.unread.Store(nil)
			b.cfg.Log.Info("log can be read again", "room", u.room.String())
		}
	}
}

// readable returns why the log cannot be read, nil if it can.
func (b *Bridge) readable() error {
	if u := b.unread.Load(); u != nil {
		return fmt.Errorf("read log of room %s: %w", u.room, u.err)
	}
	return nil
}

// rereadHead and rereadPage are what cannotRead tries again.
func (b *Bridge) rereadHead(room proto.Room) func(context.Context) error {
	return func(ctx context.Context) error {
		_, _, err := b.log.Last(ctx, room)
		return err
	}
}

func (b *Bridge) rereadPage(q history.Query) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := b.readCounted(ctx, q)
		return err
	}
}

// Failures of one repair, about feedTick apart, before its members' sessions end.
const (
	maxUnread  = 3  // that say that this gateway cannot read a record
	maxRepairs = 40 // of other kinds, unless the log cannot be reached
)

// failed counts a failed repair. Where time does not help, members would wait for ever:
// after some failures they are told that the room is lost for them. It reports whether
// that happened.
func (f *feed) failed(r *room, q history.Query, err error) bool {
	why := proto.AsRefusal(refusal(err))
	if why.Temporary() {
		return false
	}
	most := maxRepairs
	if unreadable(err) != nil {
		most = maxUnread
	}
	if r.failures++; r.failures < most {
		return false
	}
	if most == maxUnread {
		f.b.cannotRead(r.name, err, f.b.rereadPage(q))
	} else {
		f.b.cfg.Log.Error("hole of a room cannot be filled", "room", r.name.String(), "error", err)
	}
	f.b.stat.lost.Add(1)
	f.hand(r, Delivery{Room: r.name, Lost: why})
	r.live, r.failures, r.tail = false, 0, tail{}
	return true
}
