package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// leases is the bucket ROOMSVC: one key per instance, which the server drops when it was
// not renewed in time. Leases are read by asking, several times in a lease's length and
// when an instance announces a change, since a watch would be one more thing to lose in an
// outage.
type leases struct {
	js       jetstream.JetStream
	id       string
	lease    time.Duration
	replicas int
	log      *slog.Logger
	start    time.Time
	until    atomic.Int64 // when the lease may be over, in nanoseconds since start
}

// Prefixes of the subjects of the bucket's keys.
const (
	keyPrefix = "$KV." + proto.LeaseBucket + ".svc."
	tryPrefix = "$KV." + proto.LeaseBucket + ".try." // keys that only show that one can be stored
)

// Try stores a key in the bucket of leases over nc, which runs out at once. It fails if nc's
// server does not reach a majority of the servers that hold the bucket.
func Try(ctx context.Context, nc *nats.Conn, id string) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	msg := nats.NewMsg(tryPrefix + id)
	msg.Header.Set(jetstream.MsgTTLHeader, "1s")
	if _, err := js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0)); err != nil {
		return fmt.Errorf("store a key in bucket %s: %w", proto.LeaseBucket, err)
	}
	return nil
}

func openLeases(ctx context.Context, nc *nats.Conn, cfg Config) (*leases, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	l := &leases{js: js, id: cfg.ID, lease: cfg.Lease, replicas: cfg.Replicas, log: cfg.Log, start: time.Now()}
	return l, l.make(ctx)
}

// make makes the bucket if there is none. One of other settings serves as well, as long as
// its keys can run out.
func (l *leases) make(ctx context.Context) error {
	kv, err := stream.Bucket(ctx, l.js, jetstream.KeyValueConfig{
		Bucket:         proto.LeaseBucket,
		Description:    "leases of roomsvc instances",
		Storage:        jetstream.MemoryStorage,
		History:        1,
		Replicas:       l.replicas,
		LimitMarkerTTL: time.Minute, // without it keys cannot run out
	}, l.log)
	if err != nil {
		return err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", proto.LeaseBucket, err)
	}
	if status.LimitMarkerTTL() == 0 {
		return fmt.Errorf("open bucket %s: its keys cannot run out; remove it with: nats kv del %s", proto.LeaseBucket, proto.LeaseBucket)
	}
	return nil
}

// renew makes the lease last from now on. It reports whether the lease was over before
// that, and calls lapsed then, before the lease counts as fresh again.
func (l *leases) renew(ctx context.Context, leaving bool, lapsed func()) (over bool, err error) {
	body, err := json.Marshal(instance{ID: l.id, Leaving: leaving})
	if err != nil {
		return false, fmt.Errorf("encode lease: %w", err)
	}
	msg := nats.NewMsg(keyPrefix + l.id)
	msg.Data = body
	msg.Header.Set(jetstream.MsgTTLHeader, l.lease.String())
	from := time.Since(l.start)
	_, err = l.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		// A bucket in memory is gone when its only server was started again.
		if err = l.make(ctx); err == nil {
			_, err = l.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
		}
	}
	if err != nil {
		return false, fmt.Errorf("renew lease: %w", err)
	}
	if over = !l.fresh(); over {
		lapsed()
	}
	l.until.Store(int64(from + l.lease))
	return over, nil
}

// fresh reports whether the lease cannot have run out yet.
func (l *leases) fresh() bool { return int64(time.Since(l.start)) < l.until.Load() }

// end gives the lease up.
func (l *leases) end(ctx context.Context) error {
	l.until.Store(0)
	kv, err := l.js.KeyValue(ctx, proto.LeaseBucket)
	if err != nil {
		return err
	}
	return kv.Delete(ctx, "svc."+l.id)
}

// list returns the instances whose lease is there.
func (l *leases) list(ctx context.Context) ([]instance, error) {
	found, err := jetstreamext.GetLastMsgsFor(ctx, l.js, "KV_"+proto.LeaseBucket, []string{keyPrefix + "*"})
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	var there []instance
	for msg, err := range found {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list leases: %w", err)
		}
		var i instance
		// What ran out or was deleted has left a marker, with headers and without a value.
		if len(msg.Data) > 0 && json.Unmarshal(msg.Data, &i) == nil {
			there = append(there, i)
		}
	}
	return there, nil
}
