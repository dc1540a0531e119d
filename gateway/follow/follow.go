// Package follow delivers the records of rooms to the event loops that have members in those
// rooms. Each loop receives the records of a room in order, without holes and without repeats.
//
// Each feed follows the rooms of its partitions. A room's sequencer (sequencer.go) decides which
// record to deliver next. From the log, a feed reads the head of a new room (heads.go) and the
// records that the sequencer misses (repair.go). NATS does not report lost messages, so the feed
// also compares its rooms with the log from time to time (check.go). If the log has lost records
// that members have received, the feed reports the loss to the room's owner (lost.go).
package follow

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"roomcast/gateway/limit"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/seal"
)

// Follower is an event loop with members in some rooms. Feeds call Deliver from their
// goroutines, so Deliver must not block. Feeds compare followers with ==.
type Follower interface {
	// Deliver passes one delivery to the loop. The numbered deliveries of a room come in the
	// order of their seq, without holes and without repeats.
	Deliver(Delivery)
}

// Delivery is an event, a signal, a join, a leave or a gap in a room. All loops share a
// Delivery, so nobody may change it.
type Delivery struct {
	Room   proto.Room
	Seq    uint64 // 0 = not numbered: a signal, a join, a leave, or a gap
	Epoch  string // epoch of Seq
	At     time.Time
	Kind   proto.EventKind
	Stamp  string
	Text   proto.Span // where the content is in JSON
	JSON   []byte
	Origin string              // the session that sent a signal; it must not receive the signal
	Limits *proto.Restrictions // the room's restrictions after a numbered delivery or a gap; nil = none
	Gap    *proto.Gap          // the missing events that JSON announces; nil if the delivery is not a gap
	Lost   *proto.Refusal      // if not nil, this is the last delivery of the room, and Lost is the reason
}

// Config sets the limits of the feeds.
type Config struct {
	Keys   *seal.Keys // open sealed records; nil = records are not sealed
	Log    *slog.Logger
	Memory *limit.Budget // rooms count as limit.Rooms
	Reader *reads.Reader

	Feeds    int           // number of goroutines that follow rooms
	Buffer   int           // records that may wait for a feed; the feed drops further records, and reads them from the log later
	Linger   time.Duration // how long a feed keeps following a room without members
	MaxRooms int           // the most rooms that all feeds together follow; 0 = only Memory limits them
}

// DefaultConfig returns the default limits. The caller sets the other fields.
func DefaultConfig() Config {
	return Config{Feeds: min(4, runtime.GOMAXPROCS(0)), Buffer: 1 << 13, Linger: 15 * time.Second}
}

// Stats contains the counters of all feeds. It is safe for concurrent use.
type Stats struct {
	Rooms    atomic.Int64  // rooms that the feeds follow now
	Holes    atomic.Uint64 // records that arrived before an earlier record
	Repairs  atomic.Uint64 // pages that were read to fill holes
	Repeats  atomic.Uint64 // records that arrived more than once
	Gaps     atomic.Uint64 // holes that the log could not fill
	Drops    atomic.Uint64 // how often a feed dropped records because its buffer was full
	Refused  atomic.Uint64 // rooms refused because of a limit
	Bad      atomic.Uint64 // messages that are not records, or that the gateway cannot decrypt
	Lost     atomic.Uint64 // rooms that members had to leave because the gateway could not read the log
	LostEnds atomic.Uint64 // rooms whose log lacks records that members have received
	Checks   atomic.Uint64 // comparisons of a room with the log
}

// Feeds follows rooms. Each of its feeds follows the rooms of some partitions. Run blocks until
// the feeds end; the other methods do not block. All methods are safe for concurrent use.
type Feeds struct {
	stats *Stats
	feeds []*feed
}

// New returns Feeds, which do nothing until Run is called. The channel ephemeral receives the
// messages that arrive on room.eph.<p>.<g> for followed rooms.
func New(cfg Config, ephemeral chan *nats.Msg) *Feeds {
	fs := &Feeds{stats: new(Stats)}
	for range cfg.Feeds {
		fs.feeds = append(fs.feeds, newFeed(cfg, fs.stats, ephemeral))
	}
	return fs
}

// Stats returns the counters of all feeds.
func (fs *Feeds) Stats() *Stats { return fs.stats }

// Run runs the feeds, with the connection nc, until ctx ends. Then each call of Follow that still
// waits for a room's head fails: its function ready gets an error.
func (fs *Feeds) Run(ctx context.Context, nc *nats.Conn) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range fs.feeds {
		group.Go(func() error { return f.run(ctx, nc) })
	}
	return group.Wait()
}

func (fs *Feeds) of(room proto.Room) *feed { return fs.feeds[room.Partition()%len(fs.feeds)] }

// Follow begins to deliver the events of a room to f. Before the first delivery it calls ready
// with the room's head. The first delivery then has the number Head.Seq+1.
func (fs *Feeds) Follow(room proto.Room, f Follower, ready func(history.Head, error)) {
	feed := fs.of(room)
	if !feed.box.Put(func() { feed.follow(room, f, ready) }) {
		ready(history.Head{}, reads.Unavailable())
	}
}

// Unfollow ends the deliveries that Follow began. A few more deliveries may still arrive. If the
// feed has not called ready yet, it calls ready with an error.
func (fs *Feeds) Unfollow(room proto.Room, f Follower) {
	feed := fs.of(room)
	feed.box.Put(func() { feed.unfollow(room, f) })
}

// Deliver passes a delivery without a number to the room's followers. It returns false if Run
// has ended.
func (fs *Feeds) Deliver(d Delivery) bool {
	feed := fs.of(d.Room)
	return feed.box.Put(func() {
		if r := feed.rooms.get(d.Room); r != nil {
			r.deliver(d)
		}
	})
}

// Subscribe makes the feeds subscribe to room.out.<p>.<g> for each followed room. It must be
// called before Run. A program that calls Receive does not need Subscribe.
func (fs *Feeds) Subscribe() {
	for _, f := range fs.feeds {
		f.subscribes = true
	}
}

// Receive accepts a record that has been committed to the log. The caller passes the records of
// a room in order. If too many records wait, the feed drops the record and reads it from the log
// later.
func (fs *Feeds) Receive(rec proto.Record) { fs.of(rec.Room).receive(rec) }

// Missed tells the feeds that the log may contain records of a partition that were not passed to
// Receive.
func (fs *Feeds) Missed(partition int) {
	f := fs.feeds[partition%len(fs.feeds)]
	f.box.Put(func() { f.checks.scheduleAll(func(r *room) bool { return r.name.Partition() == partition }) })
}

// CheckAll makes all feeds compare their rooms with the log, because NATS may have lost
// messages.
func (fs *Feeds) CheckAll() {
	for _, f := range fs.feeds {
		f.box.Put(func() { f.checks.scheduleAll(func(*room) bool { return true }) })
	}
}

// Dropped tells the feeds that the NATS client has dropped messages of a subscription, because a
// feed read them too slowly. The feed of this subscription then compares its rooms with the log.
func (fs *Feeds) Dropped(sub *nats.Subscription) {
	fs.stats.Drops.Add(1)
	for _, f := range fs.feeds {
		f.box.Put(func() {
			f.checks.scheduleAll(func(r *room) bool {
				return r.name.OutSubject() == sub.Subject || proto.OutPartition(r.name.Partition()) == sub.Subject
			})
		})
	}
}
