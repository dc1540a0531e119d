package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// SigningKeys receives the keys that sign resume strings and tickets, the newest key first. Set
// must be safe for concurrent use and must not block.
type SigningKeys interface {
	Set([]proto.SigningKey)
}

const (
	keysWait  = 500 * time.Millisecond // wait between two attempts to fetch the keys
	keysTime  = 5 * time.Second        // time limit of one attempt
	keysEvery = time.Minute            // fetch the keys this often, because NATS may lose the message about a change
	keysPause = 10 * time.Second       // the shortest time between two requests for unknown keys

	maxKeyAsks = 1024 // sessions that may wait for a key; RefreshKeys fails at once for further sessions
)

// keyring is the state of keepKeys. The goroutine of keepKeys owns it.
type keyring struct {
	revision uint64 // revision of the known keys, or of newer keys that roomsvc has announced
	asked    time.Time
	failed   error  // result of the request at the time asked
	said     string // the last error that was logged
}

// RefreshKeys is called when a resume string or a ticket names an unknown key. It requests the
// signing keys, and then calls done from another goroutine. The error is not nil if roomsvc did not
// answer. RefreshKeys sends at most one request in each keysPause, even if clients send many
// strings with invented keys. If too many wait already, or the bridge has ended, RefreshKeys calls
// done with an error before it returns.
func (b *Bridge) RefreshKeys(done func(error)) {
	if !b.keyAsks.Offer(done, 1) {
		done(errors.New("too many strings name an unknown key, or the gateway has stopped"))
	}
}

// KeyWindow returns for how long roomsvc remembers the keys of messages. It returns 0 if the
// gateway does not know that yet.
func (b *Bridge) KeyWindow() time.Duration { return time.Duration(b.window.Load()) * time.Millisecond }

// keepKeys fetches the signing keys until ctx ends: at the beginning, when they change, and
// every keysEvery.
func (b *Bridge) keepKeys(ctx context.Context) error {
	changed := make(chan *nats.Msg, 16)
	sub, err := b.feedConn.ChanSubscribe(proto.SubjectKeysChanged, changed)
	if err != nil {
		return fmt.Errorf("follow signing keys: %w", err)
	}
	defer sub.Unsubscribe()
	status := b.feedConn.StatusChanged(nats.CONNECTED)
	defer b.feedConn.RemoveStatusListener(status)
	next := time.NewTimer(0)
	defer next.Stop()
	var k keyring
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.keyAsks.Wake():
			asks := b.keyAsks.Take(nil)
			if len(asks) > 0 && time.Since(k.asked) >= keysPause {
				k.asked = time.Now()
				k.failed = b.fetchKeys(ctx, &k)
			}
			for _, done := range asks {
				done(k.failed)
			}
			continue
		case m := <-changed:
			var announced proto.KeysChanged
			if json.Unmarshal(m.Data, &announced) == nil {
				k.revision = max(k.revision, announced.Revision)
			}
		case <-status:
		case <-next.C:
		}
		wait := keysEvery
		if b.fetchKeys(ctx, &k) != nil {
			wait = keysWait
		}
		next.Reset(wait)
	}
}

// fetchKeys requests the signing keys from roomsvc. The first call also checks that the gateway
// can read the log, because a gateway that cannot decrypt the log cannot serve anybody.
func (b *Bridge) fetchKeys(ctx context.Context, k *keyring) error {
	keys, err := askKeys(ctx, b.readConn, k.revision)
	if err == nil && !b.keysKnown.Load() {
		if keys.Imported {
			b.log.UseAPI(proto.ImportedAPI)
		}
		err = b.log.Readable(ctx)
	}
	if err == nil {
		b.cfg.Signing.Set(keys.List)
		b.window.Store(keys.Window)
		b.keysKnown.Store(true)
		k.revision, k.said = keys.Revision, ""
		return nil
	}
	b.noKeys.Store(&err)
	if why := err.Error(); why != k.said && ctx.Err() == nil {
		k.said = why
		if errors.Is(err, seal.ErrNoKey) {
			b.cfg.Log.Error("read log", "error", err)
		} else {
			b.cfg.Log.Info("waiting for roomsvc to send the signing keys", "error", err)
		}
	}
	return err
}

func askKeys(ctx context.Context, nc *nats.Conn, revision uint64) (keys proto.Keys, err error) {
	body, err := json.Marshal(proto.AskKeys{Revision: revision})
	if err != nil {
		return keys, err
	}
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, proto.SubjectKeys, body)
	if err != nil {
		return keys, fmt.Errorf("ask on %s: %w", proto.SubjectKeys, err)
	}
	if err := json.Unmarshal(m.Data, &keys); err != nil {
		return keys, fmt.Errorf("read answer on %s: %w", proto.SubjectKeys, err)
	}
	if keys.Error != "" {
		return keys, errors.New(keys.Error)
	}
	if len(keys.List) == 0 { // roomsvc 0.1.0 sends only one key
		keys.List = []proto.SigningKey{{Secret: keys.Resume}}
	}
	for _, key := range keys.List {
		if len(key.Secret) < proto.MinSecret {
			return keys, fmt.Errorf("a signing key has %d bytes; it must have %d", len(key.Secret), proto.MinSecret)
		}
	}
	return keys, nil
}
