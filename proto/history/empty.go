package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// emptyHead returns the head of a room without records. The head says whether the room is closed,
// and contains the restrictions. If the room has a record after all, emptyHead returns the head of
// that record.
func emptyHead(ctx context.Context, l *Log, room proto.Room) (Head, error) {
	if !l.Owners {
		snapshot, found, err := l.snapshotOrLost(ctx, room)
		if err != nil || !found {
			return Head{}, err
		}
		return outlived(&snapshot), nil
	}
	head := Empty(ctx, l, []proto.Room{room})[room]
	return head, head.Err
}

// outlived returns the head of a room without records whose snapshot is s.
func outlived(s *proto.Snapshot) Head {
	head := Head{Closed: s.Closed}
	if s.Closed {
		head.Why = s.Why
	}
	if !s.Limits.IsEmpty(time.Now()) {
		head.Limits = s.Limits
	}
	return head
}

// Empty returns the heads of rooms in whose logs the caller has found no records. It asks the
// owners of the rooms. A replica of the snapshots could be behind, and then a banned member could
// join. If an owner does not answer before ctx ends, the heads of its rooms have an Err.
func Empty(ctx context.Context, l *Log, rooms []proto.Room) map[proto.Room]Head {
	byPartition := make(map[int][]proto.Room)
	for _, room := range rooms {
		byPartition[room.Partition()] = append(byPartition[room.Partition()], room)
	}
	var (
		asking sync.WaitGroup
		mu     sync.Mutex // guards heads
		heads  = make(map[proto.Room]Head, len(rooms))
	)
	for partition, own := range byPartition {
		asking.Go(func() {
			for some := range slices.Chunk(own, proto.MaxStates) {
				states, err := askOwner(ctx, l.nc, partition, some)
				for _, room := range some {
					head := Head{Err: err}
					if state, found := states[room.String()]; found {
						head = headOfState(ctx, l, room, &state)
					}
					mu.Lock()
					heads[room] = head
					mu.Unlock()
				}
			}
		})
	}
	asking.Wait()
	return heads
}

// headOfState returns the head of a room with the given state. If the owner knows of a record,
// there are two possible causes: the caller's replica was behind, or a limit has removed the record
// from the log. The answer of the stream's leader decides.
func headOfState(ctx context.Context, l *Log, room proto.Room, s *proto.OwnerState) Head {
	if s.Seq > 0 {
		last, found, err := lastForCertain(ctx, l, room)
		if err != nil {
			return Head{Err: err}
		}
		if found {
			head := HeadOf(last)
			head.Err = l.Complete(ctx, room, &head)
			return head
		}
	}
	snapshot, err := proto.ParseSnapshot(s.Snapshot)
	if err != nil {
		return Head{Err: fmt.Errorf("read state of room: %w", err)}
	}
	return outlived(&snapshot)
}

// askOwner asks the partition's owner for the states of rooms. It repeats the request until the
// owner has named the states of all rooms, or until ctx ends. If ctx ends, askOwner returns an
// error. The result then lacks some of the rooms.
func askOwner(ctx context.Context, nc *nats.Conn, partition int, rooms []proto.Room) (proto.States, error) {
	states := make(proto.States, len(rooms))
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		var ask proto.AskStates
		for _, room := range rooms {
			if _, known := states[room.String()]; !known {
				ask.Rooms = append(ask.Rooms, room.String())
			}
		}
		err := askStates(ctx, nc, partition, &ask, states)
		if err == nil {
			return states, nil
		}
		select {
		case <-ctx.Done():
			return states, fmt.Errorf("ask owner of partition %d for states of rooms: %w: %w: %w", partition, errNoOwner, ctx.Err(), err)
		case <-time.After(backoff):
		}
	}
}

// errNoOwner is the refusal for clients if no owner has answered.
var errNoOwner = proto.Refuse(proto.Unavailable, "the room service does not answer now; try again").After(time.Second)

var errLeftOut = errors.New("the answer lacks rooms")

// askStates sends one request to the owner, and adds the answer to states. It returns errLeftOut if
// the answer lacks some of the rooms.
func askStates(ctx context.Context, nc *nats.Conn, partition int, ask *proto.AskStates, states proto.States) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, proto.AskStatesSubject(partition), body)
	if err != nil {
		return err
	}
	var found proto.States
	if err := json.Unmarshal(answer.Data, &found); err != nil {
		return fmt.Errorf("parse answer: %w", err)
	}
	for _, room := range ask.Rooms {
		state, named := found[room]
		if !named {
			err = errLeftOut
			continue
		}
		states[room] = state
	}
	return err
}
