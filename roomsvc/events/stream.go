package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/roomsvc/webhook"
)

// settings returns the settings for a new stream. The stream copies only records that are stored
// after now.
func (e *Events) settings(now time.Time) jetstream.StreamConfig {
	subjects := []string{proto.SubjectEventErased}
	for _, kind := range proto.Occurrences {
		subjects = append(subjects, proto.EventsOf(kind))
	}
	return jetstream.StreamConfig{
		Name:        proto.EventsStream,
		Description: "what happens in the rooms of roomcast, for applications",
		Subjects:    subjects,
		Sources: []*jetstream.StreamSource{{
			Name: proto.StreamName, OptStartTime: &now,
			SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: proto.SubjectAnyLog, Destination: proto.EventLogTo}},
		}},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Replicas:    e.svc.Replicas,
		MaxAge:      e.cfg.Age,
		MaxBytes:    e.cfg.Bytes,
		Duplicates:  time.Minute, // NATS's detection of duplicates is unused, but its window must not exceed Age
		AllowDirect: true,
	}
}

// ensureStream makes the stream. If it exists already, ensureStream changes its limits to those of
// the flags.
func (e *Events) ensureStream(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	want := e.settings(time.Now())
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another instance has just made the stream
			s, err = js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open stream %s (limited by --events-bytes): %w", want.Name, err)
	}
	have := s.CachedInfo().Config
	if have.MaxAge == want.MaxAge && have.MaxBytes == want.MaxBytes && have.Replicas == want.Replicas {
		return s, nil
	}
	have.MaxAge, have.MaxBytes, have.Replicas = want.MaxAge, want.MaxBytes, want.Replicas
	if s, err = js.UpdateStream(ctx, have); err != nil {
		return nil, fmt.Errorf("change the limits of stream %s: %w", want.Name, err)
	}
	return s, nil
}

// ackWait is how long an application may take for one event before NATS delivers the event again.
const ackWait = 10 * time.Second

// ensureConsumers makes the pull consumers of applications. Each consumer has at most one event
// that the application has not acknowledged. With two such events, NATS could deliver the first one
// again after the second. ensureConsumers does not change an existing consumer.
func (e *Events) ensureConsumers(ctx context.Context, s jetstream.Stream) error {
	subjects := []string{proto.SubjectEventLog}
	for _, kind := range proto.Occurrences {
		subjects = append(subjects, proto.EventsOf(kind))
	}
	for _, name := range e.cfg.Consumers {
		_, err := s.Consumer(ctx, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			_, err = s.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
				Durable: name, Description: "an application of roomcast",
				DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait,
				MaxAckPending: 1, FilterSubjects: subjects,
			})
		}
		if err != nil {
			return fmt.Errorf("make consumer %s: %w", name, err)
		}
	}
	return nil
}

// ensurePositions stores a position for each new webhook, so that the webhook begins with the next
// event, and not with all old events.
func (e *Events) ensurePositions(ctx context.Context, js jetstream.JetStream, s jetstream.Stream) error {
	kv, err := e.openBucket(ctx, js)
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	for _, address := range e.cfg.Webhooks {
		_, err := kv.Create(ctx, webhook.Name(address), position{info.Created, info.State.LastSeq}.encode())
		if err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return fmt.Errorf("store the position of a webhook: %w", err)
		}
	}
	return nil
}
