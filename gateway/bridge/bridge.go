// Package bridge connects a gateway to NATS, and starts the parts that use the connections. A
// [publish.Publisher] sends messages. [follow.Feeds] deliver committed records. A [reads.Reader]
// reads the log. A [presence.Presence] knows who is in each room.
//
// # What a gateway may do on NATS
//
// Gateways have a NATS account of their own, EDGE in scripts/nats.conf. The account lists the
// subjects that a gateway's user needs. Even if an attacker controls a gateway, the gateway
// cannot change the log. But it can name any sender in a new message, because roomsvc trusts
// gateways.
//
// If NATS has no separate accounts, the same subjects work, with one exception: gateways then read
// the log over $JS.API. instead of room.js. roomsvc says which of the two to use, in the answer
// that contains the signing keys.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"roomcast/gateway/follow"
	"roomcast/gateway/limit"
	"roomcast/gateway/mailbox"
	"roomcast/gateway/presence"
	"roomcast/gateway/publish"
	"roomcast/gateway/reads"
	"roomcast/proto/daemon"
	"roomcast/proto/history"
	"roomcast/proto/seal"
)

// Config configures a bridge. [New] copies the fields that the parts of the bridge share.
type Config struct {
	ID      string        // ID of this gateway, different from all others; made of [A-Za-z0-9_-]
	Version string        // semantic version, which nats micro ls shows
	Dial    daemon.Dialer // opens the connections
	Keys    *seal.Keys    // seal payloads; nil = payloads are not sealed
	Log     *slog.Logger
	Memory  *limit.Budget // memory budget of the whole gateway
	Stats   func() any    // the result is shown by nats micro stats; may be nil
	Signing SigningKeys   // receives the keys that sign resume strings and tickets
	Revoked Revocations   // receives the revocations; nil = the bridge does not read them
	Carrier Carrier       // connects this gateway with the room service; nil = over NATS

	Publish publish.Config
	Follow  follow.Config
}

// DefaultConfig returns the defaults. The caller sets ID, Dial and Signing.
func DefaultConfig() Config {
	return Config{
		Version: "0.0.0", Log: slog.Default(), Memory: limit.NewBudget(256 << 20),
		Publish: publish.DefaultConfig(), Follow: follow.DefaultConfig(),
	}
}

// check returns an error that names an invalid field.
func (c *Config) check() error {
	switch {
	case c.ID == "":
		return errors.New("make bridge: Config.ID is empty")
	case c.Signing == nil:
		return errors.New("make bridge: Config.Signing is nil")
	case c.Dial == nil:
		return errors.New("make bridge: Config.Dial is nil")
	case c.Memory == nil || c.Follow.Feeds < 1 || c.Follow.Buffer < 1 || c.Follow.MaxRooms < 0 ||
		c.Publish.MaxRequests < 1 || c.Publish.MaxPerSender < 1:
		return errors.New("make bridge: a limit is not positive")
	}
	return nil
}

// Bridge contains the connections of one gateway to NATS. It is safe for concurrent use.
//
// There are three connections, so that large transfers do not delay urgent messages. The
// connection gateway/<id> receives the events of rooms, gateway/<id>/say sends the messages of
// members, and gateway/<id>/read reads the log.
type Bridge struct {
	*publish.Publisher
	*follow.Feeds
	*reads.Reader
	*presence.Presence

	// static
	cfg     Config
	carrier Carrier
	tickets *mailbox.Box[ticket]      // tickets that wait to be marked as used; at most maxTickets
	keyAsks *mailbox.Box[func(error)] // callbacks of sessions that wait for a signing key; at most maxKeyAsks
	damaged atomic.Uint64             // reads that found a damaged record

	// set by Run before anything uses them
	feedConn *nats.Conn
	sayConn  *nats.Conn
	readConn *nats.Conn
	log      *history.Log

	revocations atomic.Bool // the list of revocations has been read

	connected atomic.Bool           // Run has opened the connections
	keysKnown atomic.Bool           // the signing keys are known, and the gateway has read the log once
	window    atomic.Int64          // how long roomsvc remembers the keys of messages, in milliseconds
	noKeys    atomic.Pointer[error] // the error of the last attempt to learn the signing keys; nil = none
}

// ephemeralBuffer is how many messages of room.eph may wait for presence to handle them. NATS
// drops further messages.
const ephemeralBuffer = 1 << 13

// New returns a bridge. Requests to the bridge wait until Run is called.
func New(cfg Config) (*Bridge, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	reader := reads.New(reads.Config{Log: cfg.Log, Memory: cfg.Memory})
	cfg.Publish.Log, cfg.Publish.Memory, cfg.Publish.Keys = cfg.Log, cfg.Memory, cfg.Keys
	cfg.Follow.Keys, cfg.Follow.Log, cfg.Follow.Memory, cfg.Follow.Reader = cfg.Keys, cfg.Log, cfg.Memory, reader
	ephemeral := make(chan *nats.Msg, ephemeralBuffer)
	feeds := follow.New(cfg.Follow, ephemeral)
	carrier := cfg.Carrier
	if carrier == nil {
		carrier = newNATSCarrier(&cfg)
	}
	carrier.Records(feeds)
	return &Bridge{
		Publisher: publish.New(cfg.Publish), Feeds: feeds, Reader: reader,
		Presence: presence.New(presence.Config{ID: cfg.ID, Keys: cfg.Keys, Log: cfg.Log, Memory: cfg.Memory}, feeds, ephemeral),
		cfg:      cfg, carrier: carrier,
		tickets: mailbox.NewBounded[ticket](maxTickets, nil), keyAsks: mailbox.NewBounded[func(error)](maxKeyAsks, nil),
	}, nil
}

// Run opens the connections and serves until ctx ends. Then it refuses all unanswered requests.
// It returns when all goroutines of the bridge have ended.
func (b *Bridge) Run(ctx context.Context) error {
	defer refuseWaiting(b)
	if err := b.connect(ctx); err != nil {
		return fmt.Errorf("run bridge: %w", err)
	}
	defer b.disconnect()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.Publisher.Run(ctx, b.carrier) })
	group.Go(func() error { return b.Feeds.Run(ctx, b.feedConn) })
	group.Go(func() error { b.Reader.Run(ctx, b.log, b.readConn); return nil })
	group.Go(func() error { return b.Presence.Run(ctx, b.feedConn) })
	group.Go(func() error { return b.watch(ctx) })
	group.Go(func() error { return b.keepKeys(ctx) })
	group.Go(func() error { b.keepMoving(ctx); return nil })
	group.Go(func() error { b.markTickets(ctx); return nil })
	group.Go(func() error { return b.followRevocations(ctx) })
	group.Go(func() error { return b.serveStatus(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("run bridge: %w", err)
	}
	return nil
}

// refuseWaiting refuses the tickets and the requests for signing keys that nobody handles any more,
// and all later ones.
func refuseWaiting(b *Bridge) {
	for _, t := range b.tickets.Close() {
		t.done(false, errEnded)
	}
	for _, done := range b.keyAsks.Close() {
		done(errEnded)
	}
}

var errEnded = errors.New("the gateway has stopped")

// Ready returns nil if NATS is connected, the signing keys are known and this gateway can read
// the log. Otherwise it returns the reason.
func (b *Bridge) Ready() error {
	switch {
	case !b.connected.Load() || !b.feedConn.IsConnected() || !b.sayConn.IsConnected() || !b.readConn.IsConnected():
		return errors.New("nats is not connected")
	case !b.keysKnown.Load():
		if err := b.noKeys.Load(); err != nil && errors.Is(*err, seal.ErrNoKey) {
			return *err
		}
		return errors.New("the signing keys are not known yet; is a roomsvc running?")
	}
	if !b.revocations.Load() {
		return errors.New("the revocations are not known yet; is a roomsvc of this version running?")
	}
	return b.Readable()
}
