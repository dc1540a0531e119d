package service

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/roomsvc/stream"
)

// snapshots holds the fence with which an owner writes the snapshots of its partition. An owner
// takes this fence when it reads the first room of its term, and so before it can append an act. It
// takes the fence only once. Otherwise it could take the fence back from the next owner, and
// replace a newer snapshot. The type is safe for concurrent use.
type snapshots struct {
	mu    sync.Mutex
	fence *stream.StateFence // nil until the fence is taken
}

// takeSnapshots returns the fence for snapshots. The first call takes it.
func (t *term) takeSnapshots(ctx context.Context) (*stream.StateFence, error) {
	t.state.mu.Lock()
	defer t.state.mu.Unlock()
	if t.state.fence == nil {
		fence, err := t.fence.TakeState(ctx, t.p.s.cfg.Instance)
		if err != nil {
			return nil, err
		}
		t.state.fence = fence
	}
	return t.state.fence, nil
}

// saveSnapshot is called when the record of an act is committed. It writes the act's snapshot,
// erases the records that the act has deleted, and reports to the term. The old snapshot may have
// fields that only a newer version knows. The new snapshot keeps these fields.
func (t *term) saveSnapshot(room proto.Room, snapshot *proto.Snapshot, erase []uint64) {
	t.p.s.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.p.s.cfg.Commit)
		defer cancel()
		err := t.writeSnapshot(ctx, room, snapshot)
		for i := 0; i < len(erase) && err == nil; i++ {
			err = t.erase(ctx, room, erase[i])
		}
		t.saved(err)
	})
}

func (t *term) writeSnapshot(ctx context.Context, room proto.Room, snapshot *proto.Snapshot) error {
	fence, err := t.takeSnapshots(ctx)
	if err != nil {
		return err
	}
	older, _, err := t.fence.Log().SnapshotBehind(ctx, room, fence.Marker())
	if errors.Is(err, history.ErrDamaged) {
		t.p.s.damagedSnapshot(room) // if a newer version has written fields that this version does not know, they are lost
	} else if err != nil {
		return fmt.Errorf("%w: %w", stream.ErrUnavailable, lost(err))
	}
	snapshot.Keep(&older)
	return fence.Write(ctx, room, snapshot)
}

// damagedSnapshot counts and logs a snapshot that the stream has but cannot read.
func (s *Service) damagedSnapshot(room proto.Room) {
	s.metrics.damaged.Inc()
	s.cfg.Log.Error("read snapshot of room: its store is damaged; restore a replica or a backup", "room", room.String(), "stream", proto.StateStream)
}
