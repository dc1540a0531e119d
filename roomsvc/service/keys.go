package service

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/roomsvc/stream"
)

const (
	keyAge   = 7 * 24 * time.Hour // age at which the newest key gets a successor
	keyLead  = 2 * time.Minute    // time from storing a key to its first use, in which all gateways receive the key
	keyCheck = time.Hour          // time between two checks of the newest key's age
	keyStale = 2 * time.Second    // how long await waits for a replica of the bucket that is behind

	rotateTime = 15 * time.Second // limit of RotateKeys
)

// keyring stores the keys that sign resume strings and tickets, in a bucket that all instances
// share. It is safe for concurrent use after open.
type keyring struct {
	nc  *nats.Conn
	kv  jetstream.KeyValue
	log *slog.Logger
}

// open opens the bucket. If it has no key, open makes the first one.
func (k *keyring) open(ctx context.Context, nc *nats.Conn, replicas int, log *slog.Logger) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	k.nc, k.log = nc, log
	if k.kv, err = stream.Bucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: proto.SecretBucket, Description: "the keys that sign resume strings and tickets of roomcast",
		Storage: jetstream.FileStorage, History: 1, Replicas: replicas,
	}, log); err != nil {
		return err
	}
	first, err := k.first(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(proto.SigningKeys{List: []proto.SigningKey{first}})
	if err != nil {
		return err
	}
	// Create before reading. When somebody reads a damaged entry, the NATS server forgets the
	// entry. A Create after that would silently replace the keys.
	if _, err = k.kv.Create(ctx, proto.SecretKey, body); errors.Is(err, jetstream.ErrKeyExists) {
		_, _, err = k.read(ctx)
	}
	return err
}

// first returns the key that version 0.1.0 has stored, so that the strings signed with it stay
// valid. If there is no such key, first returns a new one.
func (k *keyring) first(ctx context.Context) (proto.SigningKey, error) {
	entry, err := k.kv.Get(ctx, proto.FirstSecret)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return newKey(time.Now()), nil
	case err != nil:
		return proto.SigningKey{}, damagedKey(proto.FirstSecret, err)
	case len(entry.Value()) < proto.MinSecret:
		return proto.SigningKey{}, damagedKey(proto.FirstSecret, fmt.Errorf("it has %d bytes, not %d", len(entry.Value()), proto.MinSecret))
	}
	return proto.SigningKey{Secret: entry.Value(), From: entry.Created().UnixMilli()}, nil
}

func newKey(from time.Time) proto.SigningKey {
	key := proto.SigningKey{Secret: make([]byte, proto.MinSecret), From: from.UnixMilli()}
	rand.Read(key.Secret)
	return key
}

// damagedKey returns the error for an entry that cannot be read. It says what the operator can do.
func damagedKey(name string, err error) error {
	return fmt.Errorf("read key %s: %w; if its store is damaged, restore a replica, or remove it with: nats kv del %s %s", name, err, proto.SecretBucket, name)
}

// read returns the keys and their revision. The error is ErrKeyNotFound if no keys are stored, or
// if the replica that answers does not have them yet.
func (k *keyring) read(ctx context.Context) (keys proto.SigningKeys, revision uint64, err error) {
	entry, err := k.kv.Get(ctx, proto.SecretKey)
	if err == nil {
		err = json.Unmarshal(entry.Value(), &keys)
	}
	if err == nil && len(keys.List) == 0 {
		err = errors.New("the list is empty")
	}
	for _, key := range keys.List {
		if len(key.Secret) < proto.MinSecret {
			err = fmt.Errorf("a key has %d bytes, not %d", len(key.Secret), proto.MinSecret)
		}
	}
	if err != nil {
		return keys, 0, damagedKey(proto.SecretKey, err)
	}
	return keys, entry.Revision(), nil
}

// await reads the keys. If a replica answers with an older revision than the given one, await reads
// again, for at most keyStale.
func (k *keyring) await(ctx context.Context, revision uint64) (keys proto.SigningKeys, got uint64, err error) {
	for deadline := time.Now().Add(keyStale); ; {
		keys, got, err = k.read(ctx)
		if err == nil && got >= revision || time.Now().After(deadline) {
			return keys, got, err
		}
		select {
		case <-ctx.Done():
			return keys, got, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// addKey returns the keys with a new one in front. The new key signs from the given time on. addKey
// drops a key when all strings that the key has signed have expired.
func addKey(keys []proto.SigningKey, from, now time.Time) []proto.SigningKey {
	list := append([]proto.SigningKey{newKey(from)}, keys...)
	for i := 1; i < len(list); i++ {
		if stopped := time.UnixMilli(list[i-1].From); now.Sub(stopped) > proto.RevocationAge {
			return list[:i]
		}
	}
	return list
}

// rotate adds a key that signs after keyLead. If now is true, the new key replaces all other keys
// at once. Then the strings that the other keys have signed become invalid.
func (k *keyring) rotate(ctx context.Context, now bool, by string) error {
	keys, revision, err := k.read(ctx)
	if err != nil {
		return err
	}
	from := time.Now()
	if now {
		keys.List = []proto.SigningKey{newKey(from)}
	} else {
		keys.List = addKey(keys.List, from.Add(keyLead), from)
	}
	body, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	if revision, err = k.kv.Update(ctx, proto.SecretKey, body, revision); err != nil {
		return fmt.Errorf("store signing keys: %w", err)
	}
	act := "add-key"
	if now {
		act = "replace-keys"
		err = k.kv.Purge(ctx, proto.FirstSecret) // otherwise a gateway of version 0.1.0 would still accept strings signed with it
	}
	daemon.Audit(k.log, daemon.Act{Name: act, By: by, Credential: "nats"}, err)
	announced, failed := json.Marshal(proto.KeysChanged{Revision: revision})
	return errors.Join(err, failed, k.nc.Publish(proto.SubjectKeysChanged, announced))
}

// keep makes a new key whenever the newest has signed for keyAge, until ctx ends. If several
// instances try at once, one of them succeeds.
func (k *keyring) keep(ctx context.Context, instance string) {
	check := time.NewTicker(keyCheck)
	defer check.Stop()
	for {
		keys, _, err := k.read(ctx)
		if err == nil && time.Since(time.UnixMilli(keys.List[0].From)) > keyAge {
			err = k.rotate(ctx, false, instance)
		}
		if err != nil && ctx.Err() == nil {
			k.log.Warn("change signing keys", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-check.C:
		}
	}
}

// RotateKeys makes a new signing key, over a connection of its own. If now is true, all earlier
// resume strings and tickets become invalid. RotateKeys announces the change to running gateways.
func RotateKeys(ctx context.Context, cfg Config, now bool) error {
	ctx, cancel := context.WithTimeout(ctx, rotateTime)
	defer cancel()
	nc, err := cfg.Dial("roomsvc/rotate-keys")
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	k := keyring{nc: nc, log: cfg.Log}
	if k.kv, err = js.KeyValue(ctx, proto.SecretBucket); err != nil {
		return fmt.Errorf("open bucket %s: %w; has a roomsvc run with this NATS?", proto.SecretBucket, err)
	}
	if err := k.rotate(ctx, now, "rotate-keys"); err != nil {
		return err
	}
	return nc.FlushWithContext(ctx)
}

// answerKeys sends the signing keys to a gateway. Only clients of the gateways' account and of this
// service's own account can request them.
func (a api) answerKeys(r micro.Request) {
	imported := r.Headers().Get(proto.HeaderAccount) != ""
	var ask proto.AskKeys
	if len(r.Data()) > 0 && json.Unmarshal(r.Data(), &ask) != nil {
		a.respond(r, proto.Keys{Error: "the request is not an object with a revision"})
		return
	}
	a.run(r, func(ctx context.Context) any {
		keys, revision, err := a.s.keys.await(ctx, ask.Revision)
		if err != nil {
			a.s.cfg.Log.Warn("read signing keys", "error", err)
			return proto.Keys{Error: "the signing keys cannot be read now"}
		}
		oldest := keys.List[len(keys.List)-1].Secret
		return proto.Keys{SigningKeys: keys, Revision: revision, Imported: imported, Resume: oldest, Window: a.s.cfg.KeyWindow.Milliseconds()}
	})
}
