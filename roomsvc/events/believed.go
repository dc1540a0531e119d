package events

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
)

// belief is a result of lookUp.
type belief struct {
	rooms map[proto.Room]bool
	asked time.Time // when lookUp began
}

// lookUp reads from ROOMEVENTS in which rooms somebody is present, by the newest events that
// applications have received. It passes the result to run.
func (p *people) lookUp(ctx context.Context, asked time.Time) {
	rooms, err := p.e.believed(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.e.svc.Log.Warn("read which rooms applications believe to be occupied", "error", err)
		}
		return
	}
	select {
	case p.found <- belief{rooms, asked}:
	case <-ctx.Done():
	}
}

// believed returns the rooms whose newest event about people has a count above 0. It reads only the
// headers of events.
func (e *Events) believed(ctx context.Context) (map[proto.Room]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, believeTime)
	defer cancel()
	c, err := e.js.CreateConsumer(ctx, proto.EventsStream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true,
		FilterSubjects:    []string{proto.EventsOf(proto.RoomOccupied), proto.EventsOf(proto.RoomVacated), proto.EventsOf(proto.RoomPresent)},
		InactiveThreshold: believeTime, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("make consumer: %w", err)
	}
	newest := make(map[proto.Room]uint64) // stream sequence of the newest event
	rooms := make(map[proto.Room]bool)
	for left := c.CachedInfo().NumPending; left > 0; {
		batch, err := c.Fetch(int(min(left, 1000)), jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return nil, err
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return nil, err
			}
			left = meta.NumPending
			_, room, ok := proto.ParseEventSubject(m.Subject())
			if !ok || meta.Sequence.Stream < newest[room] {
				continue
			}
			newest[room] = meta.Sequence.Stream
			if m.Headers().Get(proto.HeaderCount) == "0" {
				delete(rooms, room)
			} else {
				rooms[room] = true
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return rooms, nil
}
