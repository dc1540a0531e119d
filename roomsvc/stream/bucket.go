package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket opens a key-value bucket, and makes it if it is not there. A bucket that has other
// replicas than want is given those of want, since the log has them too: whoever changes the
// log's replicas need not know of the buckets. One that cannot be changed now is reported,
// and used as it is.
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
	cfg := s.CachedInfo().Config
	if cfg.Replicas == want.Replicas {
		return kv, nil
	}
	have := cfg.Replicas
	cfg.Replicas = want.Replicas
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		log.Warn("bucket does not have the replicas of the log; change it with: nats stream edit KV_"+want.Bucket,
			"bucket", want.Bucket, "replicas", have, "want", want.Replicas, "error", err)
		return kv, nil
	}
	log.Info("bucket has the replicas of the log from now on", "bucket", want.Bucket, "replicas", want.Replicas)
	return kv, nil
}
