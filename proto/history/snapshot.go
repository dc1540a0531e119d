package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roomcast/proto"
)

// ErrDamaged is the error for a snapshot that exists but that no replica can read.
var ErrDamaged = errDamaged

// LostSnapshot takes the place of a damaged snapshot if the log does not show whether the room
// is closed. The room then counts as closed until a moderator reopens it, because opening a room
// that a moderator has closed would be worse.
func LostSnapshot() proto.Snapshot {
	return proto.Snapshot{Closed: true, Why: "the server cannot read whether this room is closed; a moderator can reopen it"}
}

// snapshots reads the stream ROOMSTATE.
type snapshots struct{ *source }

// Snapshot returns the room's snapshot, from any replica. It returns false if there is none, and
// [ErrDamaged] if the snapshot is damaged.
func (s *snapshots) Snapshot(ctx context.Context, room proto.Room) (proto.Snapshot, bool, error) {
	got, err := s.last(ctx, []string{room.StateSubject()})
	if err != nil {
		return proto.Snapshot{}, false, fmt.Errorf("read snapshot: %w", err)
	}
	if len(got) == 0 {
		return proto.Snapshot{}, false, nil
	}
	snapshot, err := proto.ParseSnapshot(got[0].data)
	if err != nil {
		return proto.Snapshot{}, false, fmt.Errorf("read snapshot: %w", err)
	}
	return snapshot, true, nil
}

// snapshotOrLost returns the room's snapshot, or LostSnapshot if the snapshot is damaged. It is
// for a room whose log does not show whether the room is closed.
func (s *snapshots) snapshotOrLost(ctx context.Context, room proto.Room) (proto.Snapshot, bool, error) {
	snapshot, found, err := s.Snapshot(ctx, room)
	if errors.Is(err, ErrDamaged) {
		return LostSnapshot(), true, nil
	}
	return snapshot, found, err
}

// last reads the last message of each subject. It returns errDamaged if several answers in a row
// were damaged.
func (s *snapshots) last(ctx context.Context, subjects []string) (got []stored, err error) {
	for range damageTries {
		got, _, err = s.directOf(ctx, proto.StateStream, request{MultiLast: subjects})
		if !errors.Is(err, errDamaged) {
			break
		}
	}
	return got, err
}

// SnapshotBehind returns the room's snapshot from a replica that has the owner's marker in the
// stream of snapshots. It returns [ErrDamaged] if the snapshot is damaged. If the marker is
// damaged, it returns [ErrFence], and the owner must write the marker again.
func (s *snapshots) SnapshotBehind(ctx context.Context, room proto.Room, marker uint64) (proto.Snapshot, bool, error) {
	own := proto.StateOwnSubject(room.Partition())
	var snapshot proto.Snapshot
	found, damage, gone := false, 0, goneMarker(0)
	err := retryStale(ctx, func() error {
		got, upTo, err := s.directOf(ctx, proto.StateStream, request{MultiLast: []string{room.StateSubject(), own}})
		if errors.Is(err, errDamaged) {
			if damage++; damage < damageTries {
				return errStale
			}
			if _, err := s.last(ctx, []string{own}); errors.Is(err, errDamaged) {
				return ErrFence
			}
			return err
		}
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

// Complete adds the restrictions to the head of a room. It reads the snapshot from any replica. If
// the head names an act that is newer than the snapshot, Complete reads the acts in between from
// the log. If the room has no records, Complete replaces the head by the result of [Empty].
func (l *Log) Complete(ctx context.Context, room proto.Room, head *Head) error {
	if head.Seq == 0 {
		empty, err := emptyHead(ctx, l, room)
		if err == nil {
			*head = empty
		}
		return err
	}
	if head.Act == 0 {
		return nil
	}
	snapshot, found, err := l.Snapshot(ctx, room)
	damaged := errors.Is(err, ErrDamaged)
	if err != nil && !damaged {
		return err
	}
	limits := snapshot.Limits
	if found && (snapshot.Epoch == head.Epoch && snapshot.Seq >= head.Act || snapshot.Epoch != head.Epoch && snapshot.At.After(head.At)) {
		head.Limits = limits
		return nil
	}
	limits, whole, err := l.Restrict(ctx, room, limits, *head)
	if err != nil {
		return err
	}
	// The owner stores the snapshot before it acknowledges a ban. So if the room has no
	// snapshot, there was no ban in the part of the log that was removed.
	if !whole && (found || damaged) {
		return proto.Refuse(proto.Unavailable, "the acts of the moderators cannot be read now; try again").After(time.Second)
	}
	head.Limits = limits
	return nil
}

// Restrict applies to limits the later acts in the log, up to the head, and returns the result. The
// result whole reports whether the log contains all of these acts.
func (l *Log) Restrict(ctx context.Context, room proto.Room, limits *proto.Restrictions, head Head) (after *proto.Restrictions, whole bool, err error) {
	from := uint64(0)
	if limits = limits.In(head.Epoch); limits != nil {
		from = limits.Seq
	}
	whole = true
	for from < head.Act {
		page, err := l.Read(ctx, Query{Room: room, Since: from, HasSince: true, Reach: head.Act, Limit: MaxLimit, own: true, limits: limits})
		if err != nil {
			return nil, false, err
		}
		whole = whole && page.Gap == nil
		for i := range page.Records {
			r := &page.Records[i]
			if from = r.Seq; from > head.Act {
				break
			}
			// If the log has lost its end, its remaining records have an older epoch. The
			// snapshot includes the acts among them.
			if r.Kind == proto.Message || r.State.Epoch != head.Epoch {
				continue
			}
			e, err := proto.ParseEvent(r.Payload)
			if err != nil {
				return nil, false, fmt.Errorf("read act: %w", err)
			}
			limits = limits.After(&e, head.Epoch)
		}
		if len(page.Records) == 0 {
			return limits, false, nil
		}
	}
	return limits, whole, nil
}
