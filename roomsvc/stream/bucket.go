package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket opens a key-value bucket, or makes it. It gives an existing bucket as many replicas as the
// log has (want.Replicas). So an operator who changes the replicas of the log need not know the
// buckets. If the change fails, Bucket logs the error and uses the bucket as it is.
func Bucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig, log *slog.Logger) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, want.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, want)
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, want.Bucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", want.Bucket, err)
	}
	s, err := js.Stream(ctx, "KV_"+want.Bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", want.Bucket, err)
	}
	if err := follow(ctx, js, s.CachedInfo().Config, want.Replicas, log); err != nil {
		log.Warn("change replicas of bucket to those of the log", "error", err)
	}
	return kv, nil
}

// follow gives the stream in have as many replicas as the log has.
func follow(ctx context.Context, js jetstream.JetStream, have jetstream.StreamConfig, replicas int, log *slog.Logger) error {
	if have.Replicas == replicas {
		return nil
	}
	was := have.Replicas
	have.Replicas = replicas
	if _, err := js.UpdateStream(ctx, have); err != nil {
		return fmt.Errorf("change stream %s from %d to %d replicas: %w", have.Name, was, replicas, err)
	}
	log.Info("changed replicas of stream to those of the log", "stream", have.Name, "replicas", replicas)
	return nil
}
