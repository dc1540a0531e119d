package history

import (
	"context"
	"fmt"
	"math"

	"roomcast/proto"
)

// lastIntact returns the newest record before the damaged ones, from any replica. A damaged record
// may have closed or reopened the room. So lastIntact takes from the snapshot whether the room is
// closed.
func (l *Log) lastIntact(ctx context.Context, room proto.Room) (proto.Record, bool, error) {
	l.damaged(room)
	r, found, err := l.lastBelow(ctx, room, math.MaxUint64)
	if err != nil || !found {
		return proto.Record{}, false, err
	}
	s, known, err := l.snapshotOrLost(ctx, room)
	if err != nil {
		return proto.Record{}, false, fmt.Errorf("read last record: %w", err)
	}
	if known && (s.At.IsZero() || s.NewerThan(&r)) {
		r.State.Closed = s.Closed
	}
	return r, true, nil
}

// addHead adds the head of a room whose newest message is damaged, is not a record, or is a
// record that this process cannot read.
func (l *Log) addHead(ctx context.Context, room proto.Room, heads map[proto.Room]Head) error {
	r, found, err := l.lastOfAny(ctx, room)
	if why, _ := Unreadable(err); why != nil {
		heads[room] = Head{Err: err}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read heads: %w", err)
	}
	if found {
		heads[room] = headOf(r)
	}
	return nil
}
