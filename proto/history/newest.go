package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roomcast/proto"
)

// Fence describes an owner's right to a partition. The stream's answers may be outdated. For
// example, a leader that the other replicas have replaced may return old records for more than ten
// seconds. So an owner uses an answer only if it includes the owner's marker and all records that
// were stored after the marker.
type Fence struct {
	Marker uint64        // stream sequence of the owner's marker
	Floor  uint64        // the highest stream sequence that was acknowledged to the owner
	Age    time.Duration // time since the marker was acknowledged
}

// ErrFence is the error if another instance has taken the partition.
var ErrFence = errors.New("another instance has taken the partition")

// ErrGone is the error if the owner's marker was removed, for example because an operator purged
// the log.
var ErrGone = errors.New("the partition's marker was removed from the log")

// Newest is the newest record of a room, for an owner that begins to serve the room.
type Newest struct {
	Record  proto.Record
	Found   bool
	Damaged bool      // the log has newer records but cannot read them
	Now     time.Time // the time, by the clock of the NATS server
}

// damageTries is how many answers must show the damage before a record counts as damaged. Each
// answer may come from another replica, which may have an intact copy.
const damageTries = 5

// Newest returns the newest record of a room. It repeats the request until an answer includes
// everything up to the fence, or until ctx ends.
func (l *Log) Newest(ctx context.Context, room proto.Room, f Fence) (n Newest, err error) {
	own := proto.OwnSubject(room.Partition())
	damage, gone := 0, goneMarker(0)
	err = retryStale(ctx, func() error {
		got, upTo, err := l.directOf(ctx, proto.StreamName, request{MultiLast: []string{room.LogSubject(), own}})
		if errors.Is(err, errDamaged) {
			if damage++; damage < damageTries {
				return errStale
			}
			n, err = l.newestIntact(ctx, room, f)
			return err
		}
		if err != nil {
			return err
		}
		marker, last := take(got, own)
		switch {
		case marker.seq > f.Marker:
			return ErrFence
		case gone.is(marker, f.Marker, max(f.Marker, f.Floor), upTo):
			return ErrGone
		case marker.seq < f.Marker || upTo < f.Floor:
			return errStale
		}
		n, err = l.confirmed(ctx, room, f, marker, last)
		return err
	})
	if err != nil {
		return Newest{}, fmt.Errorf("read newest record: %w", err)
	}
	return n, nil
}

// goneMarker decides whether an owner's marker was removed from the stream. An answer without
// the marker may also come from an outdated replica. So goneMarker counts these answers, and
// reports the removal after damageTries of them.
type goneMarker int

func (g *goneMarker) is(marker stored, want, floor, upTo uint64) bool {
	if marker.seq >= want {
		return false
	}
	if marker.seq == 0 && upTo == 0 {
		*g++
	}
	return upTo >= floor || *g >= damageTries
}

// retryStale calls try until it returns nil or an error other than errStale, or until ctx ends.
func retryStale(ctx context.Context, try func() error) error {
	for wait := staleWait; ; wait = min(2*wait, maxBackoff) {
		err := try()
		if !errors.Is(err, errStale) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// take separates the marker from the record. If one of the two is missing, its sequence is 0.
func take(got []stored, own string) (marker, last stored) {
	for _, s := range got {
		if s.subject == own {
			marker = s
		} else {
			last = s
		}
	}
	return marker, last
}

func (l *Log) confirmed(ctx context.Context, room proto.Room, f Fence, marker, last stored) (Newest, error) {
	n := Newest{Now: marker.time().Add(f.Age)}
	if last.seq == 0 {
		return n, nil
	}
	var err error
	if n.Record, n.Found, err = l.newest(ctx, room, last); err != nil {
		return Newest{}, err
	}
	return n, nil
}

// newestIntact returns the newest record before the damaged ones. It reads the room several
// times, because each answer may come from another replica, and returns the newest result.
func (l *Log) newestIntact(ctx context.Context, room proto.Room, f Fence) (Newest, error) {
	got, _, err := l.directOf(ctx, proto.StreamName, request{MultiLast: []string{proto.OwnSubject(room.Partition())}})
	if errors.Is(err, errDamaged) {
		return Newest{}, ErrFence // the marker is damaged, so the owner must write it again
	}
	if err != nil {
		return Newest{}, err
	}
	l.damaged(room)
	n := Newest{Damaged: true}
	if len(got) == 1 {
		n.Now = got[0].time().Add(f.Age)
	}
	for range damageTries {
		r, found, err := l.lastBelow(ctx, room, 1<<63)
		if err != nil {
			return Newest{}, err
		}
		if found && r.Stream > n.Record.Stream {
			n.Record, n.Found = r, true
		}
	}
	return n, nil
}

// time returns when the server stored the message, by the server's clock.
func (s stored) time() time.Time {
	if !s.at.IsZero() {
		return s.at
	}
	t, _ := time.Parse(time.RFC3339Nano, s.header.Get("Nats-Time-Stamp"))
	return t
}
