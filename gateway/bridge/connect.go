package bridge

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/history"
	"roomcast/proto/seal"
)

const (
	dialWait    = 250 * time.Millisecond // between attempts, doubled each time
	dialWaitMax = 2 * time.Second
	secretWait  = 500 * time.Millisecond

	// A NATS server that does not read for so long is left for another one: nobody here
	// can wait for it.
	writeTime = 2 * time.Second

	// After NATS was away every gateway compares all its rooms: not all at once.
	backJitter = 500 * time.Millisecond
)

// advisory tells that the stream has a new leader. The old one may have died with
// records that it had not republished.
const advisory = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + proto.StreamName

// connect opens the connections, as often as it takes.
func (b *Bridge) connect(ctx context.Context) (err error) {
	name := "gateway/" + b.cfg.ID
	if b.feedConn, err = b.dial(ctx, name, nats.ErrorHandler(b.feedError)); err != nil {
		return err
	}
	if b.sayConn, err = b.dial(ctx, name+"/say"); err == nil {
		b.control, err = b.dial(ctx, name+"/read")
	}
	if err != nil {
		b.hangUp()
		return err
	}
	b.log = history.New(b.control, b.cfg.Keys)
	b.log.Damaged = func(room proto.Room) {
		b.stat.damaged.Add(1)
		b.cfg.Log.Error("read room: its store is damaged; restore a replica or a backup", "room", room.String(), "stream", proto.StreamName)
	}
	b.running.Store(true)
	return nil
}

func (b *Bridge) hangUp() {
	for _, nc := range []*nats.Conn{b.feedConn, b.sayConn, b.control} {
		if nc != nil {
			nc.Close()
		}
	}
}

func (b *Bridge) dial(ctx context.Context, name string, more ...nats.Option) (*nats.Conn, error) {
	opts := append([]nats.Option{
		OwnInbox(b.cfg.ID),
		nats.ReconnectBufSize(-1), // what was said before must not be sent after; see lanes
		nats.FlusherTimeout(writeTime),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
	}, more...)
	for wait := dialWait; ; wait = min(2*wait, dialWaitMax) {
		nc, err := b.cfg.Dial(name, opts...)
		if err == nil {
			return nc, nil
		}
		b.cfg.Log.Warn("nats cannot be reached", "conn", name, "error", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect %s: %w", name, err)
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// OwnInbox has the answers to the gateway of this id come to a subject that names the
// gateway, or to the one that the operator wants. It ends in a random token: a reply
// subject that others can guess is one that they can answer on.
func OwnInbox(id string) nats.Option {
	return func(o *nats.Options) error {
		if o.InboxPrefix == "" {
			o.InboxPrefix = "_INBOX_gw." + id
		}
		o.InboxPrefix += "." + crand.Text()
		return nil
	}
}

// shownInbox returns the prefix of reply subjects for requests that other gateways
// receive. It tells nothing about the connection's other reply subjects.
func shownInbox(nc *nats.Conn) string {
	own := nc.Opts.InboxPrefix
	return own[:strings.LastIndexByte(own, '.')+1] + crand.Text() + "."
}

// feedError is told of messages that were dropped because a feed is behind. Their rooms
// are compared with the log.
func (b *Bridge) feedError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if sub == nil || !errors.Is(err, nats.ErrSlowConsumer) {
		b.cfg.Log.Warn("nats reports", "error", err)
		return
	}
	b.stat.drops.Add(1)
	b.eachFeed(func(f *feed) {
		f.checkAll(func(r *room) bool {
			part := &f.partitions[r.name.Partition()]
			return r.out == sub || part.out == sub
		})
	})
}

// keepMoving has the connections leave NATS servers over which no room service can be
// reached, until ctx ends. The one that reads goes first: what the others missed is read
// over it as soon as they are back.
func (b *Bridge) keepMoving(ctx context.Context) {
	mover := daemon.Mover{
		Conns: []*nats.Conn{b.control, b.sayConn, b.feedConn}, Name: "gateway/" + b.cfg.ID + "/try", Log: b.cfg.Log,
		Dial: func(name string, opts ...nats.Option) (*nats.Conn, error) {
			return b.cfg.Dial(name, append([]nats.Option{OwnInbox(b.cfg.ID)}, opts...)...)
		},
		Works: func(ctx context.Context, nc *nats.Conn) error {
			_, err := nc.RequestWithContext(ctx, proto.SubjectServiceAlive, nil)
			return err
		},
	}
	mover.Run(ctx)
}

// watch has rooms compared with the log after what may have cost records: a time without
// connection, or another leader of the stream.
func (b *Bridge) watch(ctx context.Context) error {
	elected := make(chan *nats.Msg, 16)
	if _, err := b.feedConn.ChanSubscribe(advisory, elected); err != nil {
		return err
	}
	status := b.feedConn.StatusChanged(nats.CONNECTED)
	defer b.feedConn.RemoveStatusListener(status)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-elected:
		case <-status:
			select {
			case b.roster.revived <- struct{}{}:
			default:
			}
			b.eachFeed((*feed).recount)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rand.N(backJitter)):
		}
		b.eachFeed(func(f *feed) { f.checkAll(func(*room) bool { return true }) })
	}
}

// fetchSecret asks roomsvc for the secret until it has it and the log can be read: without
// the key of what is in the log this gateway is of no use to anybody.
func (b *Bridge) fetchSecret(ctx context.Context) {
	for said := ""; ; {
		secret, err := b.askSecret(ctx)
		if err == nil {
			b.secret.Store(&secret)
			return
		}
		b.waits.Store(&err)
		switch why := err.Error(); {
		case why == said:
		case errors.Is(err, seal.ErrNoKey):
			b.cfg.Log.Error("log cannot be read", "error", err)
			said = why
		default:
			b.cfg.Log.Info("waiting for the secret of resume strings, which roomsvc holds", "error", err)
			said = why
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(secretWait):
		}
	}
}

func (b *Bridge) askSecret(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	m, err := b.control.RequestWithContext(ctx, proto.SubjectKeys, nil)
	if err != nil {
		return nil, fmt.Errorf("ask on %s: %w", proto.SubjectKeys, err)
	}
	var keys proto.Keys
	if err := json.Unmarshal(m.Data, &keys); err != nil {
		return nil, fmt.Errorf("read answer on %s: %w", proto.SubjectKeys, err)
	}
	if len(keys.Resume) < 32 {
		return nil, fmt.Errorf("the secret has %d bytes, it must have 32", len(keys.Resume))
	}
	if keys.Imported {
		b.log.UseAPI(proto.ImportedAPI)
	}
	return keys.Resume, b.log.Readable(ctx)
}
