package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// leases is the bucket ROOMSVC. It has one key for each instance, and the instance writes its key
// again several times during a lease. An instance counts as dead if its key does not change for the
// length of the lease. Each reader measures that time by its own clock, and begins when it sees a
// change of the key. So nobody compares two clocks, and the server need not delete keys.
//
// An instance reads the bucket periodically. It does not use a watch (a NATS subscription to the
// changes), because a watch may end in an outage without an error.
type leases struct {
	js       jetstream.JetStream
	id       string
	lease    time.Duration
	replicas int
	log      *slog.Logger

	key key // owned by the goroutine that runs [Owner.look]; two such goroutines never run at the same time
}

// Prefixes of the subjects of the bucket's keys.
const (
	keyPrefix = "$KV." + proto.LeaseBucket + ".svc."
	tryPrefix = "$KV." + proto.LeaseBucket + ".try." // keys that Try writes
)

// keyAge is how long the bucket keeps a key after its last write.
const keyAge = 10 * time.Minute

// codeWrongLast is JetStream's error code for a write that names a wrong last sequence.
const codeWrongLast = jetstream.JSErrCodeStreamWrongLastSequence

// key is a key of the bucket that only one instance writes. Each write names the sequence of the
// last acknowledged write. The leader of the bucket's stream refuses the write if the key has a
// newer sequence. So a leader that is cut off from its peers accepts only one write to each key. It
// cannot commit that write, so it does not acknowledge it, and it refuses the next write. When the
// leader is connected again, it must remove the accepted writes. nats-server 2.15.2 removes only
// one or two uncommitted writes every two seconds. Until it has removed them all, the bucket lacks
// one replica.
type key struct {
	js      jetstream.JetStream
	subject string
	last    uint64 // stream sequence of the last acknowledged write
}

func (k *key) put(ctx context.Context, body []byte) error {
	err := k.tryPut(ctx, body)
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == codeWrongLast {
		// The last write was stored but not acknowledged, or the bucket was deleted and made again.
		found, readErr := readKeys(ctx, k.js, k.subject)
		if readErr != nil {
			return readErr
		}
		k.last = 0
		for _, msg := range found {
			k.last = msg.Sequence
		}
		err = k.tryPut(ctx, body)
	}
	return err
}

func (k *key) tryPut(ctx context.Context, body []byte) error {
	ack, err := k.js.PublishMsg(ctx, &nats.Msg{Subject: k.subject, Data: body},
		jetstream.WithExpectLastSequencePerSubject(k.last), jetstream.WithRetryAttempts(0))
	if err == nil {
		k.last = ack.Sequence
	}
	return err
}

// readKeys returns the newest message of each subject that matches.
func readKeys(ctx context.Context, js jetstream.JetStream, subject string) ([]*jetstream.RawStreamMsg, error) {
	found, err := jetstreamext.GetLastMsgsFor(ctx, js, "KV_"+proto.LeaseBucket, []string{subject})
	if err != nil {
		return nil, err
	}
	var msgs []*jetstream.RawStreamMsg
	for msg, err := range found {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, err
		}
		msgs = append(msgs, msg)
	}
	return msgs, nil
}

// Try stores a key in the bucket of leases over nc. It fails if the server of this connection does
// not reach a majority of the servers that hold the bucket.
func Try(ctx context.Context, nc *nats.Conn, id string) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	k := key{js: js, subject: tryPrefix + id}
	if err := k.put(ctx, nil); err != nil {
		return fmt.Errorf("store a key in bucket %s: %w", proto.LeaseBucket, err)
	}
	return nil
}

func openLeases(ctx context.Context, nc *nats.Conn, cfg Config) (*leases, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	l := &leases{
		js: js, id: cfg.ID, lease: cfg.Lease, replicas: cfg.Replicas, log: cfg.Log,
		key: key{js: js, subject: keyPrefix + cfg.ID},
	}
	return l, l.make(ctx)
}

// make makes the bucket if it does not exist. Other settings of an existing bucket do no harm.
func (l *leases) make(ctx context.Context) error {
	_, err := stream.Bucket(ctx, l.js, jetstream.KeyValueConfig{
		Bucket:      proto.LeaseBucket,
		Description: "leases of roomsvc instances",
		Storage:     jetstream.MemoryStorage,
		History:     1,
		TTL:         keyAge,
		Replicas:    l.replicas,
	}, l.log)
	return err
}

// renew writes the lease again.
func (l *leases) renew(ctx context.Context, leaving bool) error {
	body, err := json.Marshal(instance{ID: l.id, Leaving: leaving, Lease: l.lease})
	if err != nil {
		return fmt.Errorf("encode lease: %w", err)
	}
	err = l.key.put(ctx, body)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		// The bucket is in memory, so a restart of its only server has removed it.
		if err = l.make(ctx); err == nil {
			err = l.key.put(ctx, body)
		}
	}
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	return nil
}

// end deletes the lease.
func (l *leases) end(ctx context.Context) error {
	kv, err := l.js.KeyValue(ctx, proto.LeaseBucket)
	if err != nil {
		return err
	}
	return kv.Delete(ctx, "svc."+l.id)
}

// staleWait is the pause before list reads again from a replica that is behind.
const staleWait = 20 * time.Millisecond

// list returns the leases in the bucket. If the answer lacks this instance's last renewal, it comes
// from a replica that is behind. Then list reads again, until ctx ends.
func (l *leases) list(ctx context.Context) ([]lease, error) {
	for {
		found, err := readKeys(ctx, l.js, keyPrefix+"*")
		if err != nil {
			return nil, fmt.Errorf("list leases: %w", err)
		}
		var there []lease
		current := false
		for _, msg := range found {
			i := lease{seq: msg.Sequence, at: msg.Time}
			// For a deleted key, the bucket contains a message without a value.
			if len(msg.Data) > 0 && json.Unmarshal(msg.Data, &i.instance) == nil {
				there = append(there, i)
				current = current || i.ID == l.id && i.seq >= l.key.last
			}
		}
		if current {
			return there, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("list leases: the replica that answers is behind: %w", ctx.Err())
		case <-time.After(staleWait):
		}
	}
}
