package history

import (
	"context"
	"errors"
	"fmt"

	"roomcast/proto"
)

// Snapshot returns the room's snapshot as any replica knows it, and whether there is one.
func (l *Log) Snapshot(ctx context.Context, room proto.Room) (proto.Snapshot, bool, error) {
	got, _, err := l.directOf(ctx, proto.StateStream, request{LastBy: room.StateSubject()})
	if errors.Is(err, errNone) {
		return proto.Snapshot{}, false, nil
	}
	if err != nil {
		return proto.Snapshot{}, false, fmt.Errorf("read snapshot: %w", err)
	}
	s, err := proto.ParseSnapshot(got[0].data)
	if err != nil {
		return proto.Snapshot{}, false, fmt.Errorf("read snapshot: %w", err)
	}
	return s, true, nil
}

// SnapshotBehind returns the room's snapshot, confirmed by the marker that the owner has
// written in the stream of snapshots.
func (l *Log) SnapshotBehind(ctx context.Context, room proto.Room, marker uint64) (proto.Snapshot, bool, error) {
	own := proto.StateOwnSubject(room.Partition())
	var snapshot proto.Snapshot
	found, gone := false, goneMarker(0)
	err := until(ctx, func() error {
		got, upTo, err := l.directOf(ctx, proto.StateStream, request{MultiLast: []string{room.StateSubject(), own}})
		if err != nil {
			return err
		}
		mine, last := take(got, own)
		switch {
		case mine.seq > marker:
			return ErrFence
		case gone.is(mine, marker, marker, upTo):
			return ErrGone
		case mine.seq < marker || upTo < marker:
			return errStale
		case last.seq == 0:
			return nil
		}
		found = true
		snapshot, err = proto.ParseSnapshot(last.data)
		return err
	})
	if err != nil {
		return proto.Snapshot{}, false, fmt.Errorf("read snapshot: %w", err)
	}
	return snapshot, found, nil
}

// emptyHead returns the head of a room without records: only whether it is closed.
func (l *Log) emptyHead(ctx context.Context, room proto.Room) (Head, error) {
	s, found, err := l.Snapshot(ctx, room)
	if err != nil || !found || !s.Closed {
		return Head{}, err
	}
	return Head{Closed: true, Why: s.Why}, nil
}

// addSnapshots adds the heads of those rooms without records that are closed.
func (l *Log) addSnapshots(ctx context.Context, rooms []proto.Room, heads map[proto.Room]Head) error {
	if len(rooms) == 0 {
		return nil
	}
	subjects := make([]string, len(rooms))
	for i, room := range rooms {
		subjects[i] = room.StateSubject()
	}
	got, _, err := l.directOf(ctx, proto.StateStream, request{MultiLast: subjects})
	if err != nil {
		return fmt.Errorf("read snapshots: %w", err)
	}
	for _, m := range got {
		room, err := proto.RoomOfSubject(m.subject)
		if err != nil {
			continue
		}
		s, err := proto.ParseSnapshot(m.data)
		if err != nil {
			return fmt.Errorf("read snapshots: %w", err)
		}
		if s.Closed {
			heads[room] = Head{Closed: true, Why: s.Why}
		}
	}
	return nil
}
