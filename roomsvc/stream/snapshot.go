package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// StateFence is the right to write the snapshots of a partition. It becomes void when another
// instance takes the right. An instance takes its StateFence after its [Fence], and before it
// appends any act under that Fence. So the stream refuses late snapshots of a former owner. A
// StateFence is safe for concurrent use.
type StateFence struct {
	conn     *commitConn
	owner    string // subject of the marker
	marker   uint64
	deadline time.Duration

	mu sync.Mutex // locked during a write, because a replicated stream accepts only one write at a time for a marker
}

// TakeState takes the right to write the partition's snapshots for owner.
func (f *Fence) TakeState(ctx context.Context, owner string) (*StateFence, error) {
	cfg := &f.conn.c.cfg
	s := &StateFence{conn: f.conn, owner: proto.StateOwnSubject(f.Partition), deadline: cfg.Deadline}
	msg := nats.NewMsg(s.owner)
	msg.Data = []byte(strconv.Quote(owner))
	var err error
	if s.marker, err = s.publish(ctx, msg); err != nil {
		return nil, fmt.Errorf("take snapshots of partition %d: %w", f.Partition, err)
	}
	return s, nil
}

// Marker returns the stream sequence of the marker.
func (s *StateFence) Marker() uint64 { return s.marker }

// Write stores a room's snapshot. It fails with [ErrLost] if another instance has taken
// the partition's snapshots.
func (s *StateFence) Write(ctx context.Context, room proto.Room, snapshot *proto.Snapshot) error {
	body, err := snapshot.AppendJSON(nil)
	if err != nil {
		return err
	}
	msg := nats.NewMsg(room.StateSubject())
	msg.Data = body
	msg.Header.Set(headerExpect, strconv.FormatUint(s.marker, 10))
	msg.Header.Set(headerExpectSubject, s.owner)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.publish(ctx, msg); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// Sweep deletes older snapshots of a room, in the background. They exist if an owner has replaced a
// snapshot and has died before it could delete the old one.
func (s *StateFence) Sweep(room proto.Room) { s.conn.sweepLater(sweep{subject: room.StateSubject()}) }

func (s *StateFence) publish(ctx context.Context, msg *nats.Msg) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	for {
		reply, err := s.conn.nc.RequestMsgWithContext(ctx, msg)
		if err != nil {
			return 0, unavailable(err)
		}
		seq, err := parseStateAck(reply)
		if err == nil {
			s.conn.sweepLater(sweep{msg.Subject, seq})
		}
		if !errors.Is(err, errRetry) {
			return seq, err
		}
		select {
		case <-ctx.Done():
			return 0, unavailable(ctx.Err())
		case <-time.After(retryPause):
		}
	}
}
