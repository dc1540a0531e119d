// Package events lets applications receive the events of rooms.
//
//	log -> stream ROOMEVENTS -> pull consumers, webhooks
//	gateways -> people -> events joined, left, occupied, vacated, present -> ROOMEVENTS
//
// NATS copies each record of the log to ROOMEVENTS (stream.go). The owner of a partition adds the
// joins and leaves of people (people.go, question.go, crowd.go). Readers read the stream and store their
// position (read.go). Each webhook has a reader (post.go), and another reader erases deleted
// messages (erase.go). The package has its own connection to NATS and its own goroutines, so it
// never delays a message.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/seal"
	"roomcast/roomsvc/stream"
	"roomcast/roomsvc/webhook"
)

// typeMessage is the type of an event for a message.
const typeMessage = "message"

// Service is the part of the room service that the package needs.
type Service struct {
	Dial     func(opts ...nats.Option) (*nats.Conn, error)
	Owns     func(partition int) bool // this instance owns the partition, and no other instance can have taken the partition
	Replicas int                      // of the log
	Keys     *seal.Keys               // decrypt records and encrypt events; nil = no encryption
	Log      *slog.Logger
}

// Events implements the events for applications. The service calls Open until it succeeds, and then
// Run once.
type Events struct {
	// Static after New.
	cfg       Config
	svc       Service
	receivers []*webhook.Receiver
	metrics   *metrics

	// Set at the beginning of Run, before the other goroutines start.
	nc     *nats.Conn
	js     jetstream.JetStream
	stored *history.Stream
	states *history.Stream // the snapshots of rooms
}

// New returns Events. It reads the secrets of webhooks from their files.
func New(cfg Config, svc Service) (*Events, error) {
	e := &Events{cfg: cfg, svc: svc, metrics: newMetrics()}
	for i, address := range cfg.Webhooks {
		r, err := webhook.Open(address, cfg.SecretFiles[min(i, len(cfg.SecretFiles)-1)], svc.Log)
		if err != nil {
			return nil, err
		}
		e.receivers = append(e.receivers, r)
	}
	return e, nil
}

// Collectors returns the metrics.
func (e *Events) Collectors() []prometheus.Collector { return e.metrics.all() }

// Open makes the stream, its consumers and the positions of webhooks, if events are on.
func (e *Events) Open(ctx context.Context, nc *nats.Conn) error {
	if !e.cfg.On() {
		return nil
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	s, err := e.ensureStream(ctx, js)
	if err != nil {
		return err
	}
	if err := e.ensureConsumers(ctx, s); err != nil {
		return err
	}
	return e.ensurePositions(ctx, js, s)
}

// retryPause is how long the package waits after an error of NATS.
const retryPause = time.Second

// Run sends events until ctx ends.
func (e *Events) Run(ctx context.Context) {
	for e.connect(ctx) != nil {
		if !wait(ctx, retryPause) {
			return
		}
	}
	defer e.nc.Close()
	if !e.cfg.On() && !e.leftBehind(ctx) {
		return
	}
	var parts sync.WaitGroup
	parts.Go(func() { e.read(ctx, eraserName, &eraser{e: e}) })
	for _, r := range e.receivers {
		parts.Go(func() {
			defer r.Close()
			e.read(ctx, webhook.Name(r.URL), newPoster(e, r))
		})
	}
	if e.cfg.On() {
		parts.Go(func() { newPeople(e).run(ctx) })
	}
	parts.Wait()
}

func (e *Events) connect(ctx context.Context) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.nc, err = e.svc.Dial(); err != nil {
		return err
	}
	if e.js, err = jetstream.New(e.nc); err != nil {
		e.nc.Close()
		return err
	}
	e.stored, e.states = history.NewStream(e.nc, proto.EventsStream), history.NewStream(e.nc, proto.StateStream)
	return nil
}

// leftBehind is called when events are off. It reports whether the stream still exists. Such a
// stream still copies the log, so deleted messages must be erased from it too.
func (e *Events) leftBehind(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := e.js.Stream(ctx, proto.EventsStream); err != nil {
		return false // the stream does not exist, or the permissions of this NATS user hide it
	}
	e.svc.Log.Warn("stream ROOMEVENTS copies the log although --events is off; remove it with: nats stream rm ROOMEVENTS")
	return true
}

// wait waits for a time, and returns false if ctx ends earlier.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// openBucket opens the bucket of positions.
func (e *Events) openBucket(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	return stream.Bucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: proto.PositionBucket, Description: "how far roomcast has read ROOMEVENTS, by reader",
		Storage: jetstream.FileStorage, History: 1, Replicas: e.svc.Replicas,
	}, e.svc.Log)
}
