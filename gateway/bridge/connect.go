package bridge

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/history"
)

const (
	dialWait    = 250 * time.Millisecond // wait between two attempts to connect; doubled each time
	dialWaitMax = 2 * time.Second

	// A gateway closes its connection to a NATS server that has not read anything for this long.
	writeTime = 2 * time.Second

	// After an interruption, gateways compare their rooms with the log. They spread this work
	// over this time.
	backJitter = 500 * time.Millisecond
)

// advisory is the subject on which NATS announces a new leader of the stream. A gateway must
// react, because the old leader may have died before it republished its last records.
const advisory = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + proto.StreamName

// connect opens the connections. It repeats failed attempts until ctx ends.
func (b *Bridge) connect(ctx context.Context) (err error) {
	name := "gateway/" + b.cfg.ID
	if b.feedConn, err = b.dial(ctx, name, nats.ErrorHandler(b.feedError)); err != nil {
		return err
	}
	if b.sayConn, err = b.dial(ctx, name+"/say"); err == nil {
		b.readConn, err = b.dial(ctx, name+"/read")
	}
	if err != nil {
		b.disconnect()
		return err
	}
	if c, ok := b.carrier.(*natsCarrier); ok {
		c.nc = b.sayConn
	}
	b.log = history.New(b.readConn, b.cfg.Keys)
	b.log.Owners = true
	b.log.Damaged = func(room proto.Room) {
		b.damaged.Add(1)
		b.cfg.Log.Error("read room: its store is damaged; restore a replica or a backup", "room", room.String(), "stream", proto.StreamName)
	}
	b.connected.Store(true)
	return nil
}

func (b *Bridge) disconnect() {
	for _, nc := range []*nats.Conn{b.feedConn, b.sayConn, b.readConn} {
		if nc == nil {
			continue
		}
		if nc.IsConnected() {
			// If the flush fails, the effect is the same as that of an interruption.
			_ = nc.FlushTimeout(writeTime)
		}
		nc.Close()
	}
}

func (b *Bridge) dial(ctx context.Context, name string, more ...nats.Option) (*nats.Conn, error) {
	opts := append([]nats.Option{
		OwnInbox(b.cfg.ID),
		nats.ReconnectBufSize(-1), // do not buffer: requests from before an interruption must not be sent after it
		nats.FlusherTimeout(writeTime),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
	}, more...)
	for wait := dialWait; ; wait = min(2*wait, dialWaitMax) {
		nc, err := b.cfg.Dial(name, opts...)
		if err == nil {
			return nc, nil
		}
		b.cfg.Log.Warn("connect to nats", "conn", name, "error", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect %s: %w", name, err)
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// OwnInbox makes the connection's reply subjects begin with the gateway's ID, or with the prefix
// that the operator has set. A random token follows. Without the random token, a client could
// guess a reply subject and send an answer on it.
func OwnInbox(id string) nats.Option {
	return func(o *nats.Options) error {
		if o.InboxPrefix == "" {
			o.InboxPrefix = "_INBOX_gw." + id
		}
		o.InboxPrefix += "." + crand.Text()
		return nil
	}
}

// feedError handles an error that the NATS client reports. If NATS has dropped messages, the feeds
// must read them from the log.
func (b *Bridge) feedError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if sub == nil || !errors.Is(err, nats.ErrSlowConsumer) {
		b.cfg.Log.Warn("nats reports an error", "error", err)
		return
	}
	if strings.HasPrefix(sub.Subject, "room.out.") {
		b.Feeds.Dropped(sub)
	} else {
		b.Presence.Dropped()
	}
}

// keepMoving moves the connections to another NATS server if the present one cannot reach a room
// service. It runs until ctx ends. The connection that reads the log moves first. While the other
// connections move, the gateway uses this first connection to read the records that they miss.
func (b *Bridge) keepMoving(ctx context.Context) {
	mover := daemon.Mover{
		Conns: []*nats.Conn{b.readConn, b.sayConn, b.feedConn}, Name: "gateway/" + b.cfg.ID + "/try", Log: b.cfg.Log,
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

// watch makes the feeds compare their rooms with the log after a time without a connection, and
// after the stream gets a new leader. In both cases NATS may have lost records on their way to
// the gateway.
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
			b.Presence.Reconnected()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rand.N(backJitter)):
		}
		b.Feeds.CheckAll()
	}
}
