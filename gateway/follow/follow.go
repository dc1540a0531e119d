// Package follow hands the records of rooms to the event loops that have members in them,
// in order, without holes and without repeats.
//
// Each feed follows the rooms of its partitions. A room's sequencer (sequencer.go) is the
// delivery rule. A feed reads the head of a new room (heads.go) and the records that the
// sequencer misses (repair.go) from the log. NATS does not report lost messages, so the feed
// also compares its rooms with the log from time to time (check.go). If the log has lost records
// that members have seen, the feed reports that to the room's owner (lost.go).
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

// Follower is an event loop that has members. Feeds call Deliver from their goroutines, so it
// must not block. Feeds compare followers by ==.
type Follower interface {
	// Deliver hands over one delivery. Numbered deliveries of a room come in the order of their
	// seq, without holes and without repeats.
	Deliver(Delivery)
}

// Delivery is one event, signal or gap of a room. All loops share it, so it must not change.
type Delivery struct {
	Room   proto.Room
	Seq    uint64 // 0 = not numbered: a signal, a join, a leave, or a gap
	Epoch  string // of Seq
	At     time.Time
	Kind   proto.EventKind
	Stamp  string
	Text   proto.Span // the place of the content in JSON
	JSON   []byte
	Origin string              // of a signal: the session that sent it and must not receive it
	Limits *proto.Restrictions // of the room after a numbered delivery or a gap; nil = none
	Gap    *proto.Gap          // of a gap, whose JSON announces missing events; otherwise nil
	Lost   *proto.Refusal      // not nil: the last delivery of the room, with the reason
}

// Config sets the limits of the feeds.
type Config struct {
	Keys   *seal.Keys // nil = records travel in plain text
	Log    *slog.Logger
	Memory *limit.Budget // rooms count as limit.Rooms
	Reader *reads.Reader

	Feeds    int           // number of goroutines that follow rooms
	Buffer   int           // records that wait for a feed; it drops more and reads them from the log later
	Linger   time.Duration // how long a feed follows a room without members
	MaxRooms int           // rooms that all feeds follow; 0 = only Memory limits them
}

// DefaultConfig returns the default limits; the caller sets the other fields.
func DefaultConfig() Config {
	return Config{Feeds: min(4, runtime.GOMAXPROCS(0)), Buffer: 1 << 13, Linger: 15 * time.Second}
}

// Stats counts what feeds do. It is safe for concurrent use.
type Stats struct {
	Rooms    atomic.Int64  // rooms that are followed
	Holes    atomic.Uint64 // holes: a record arrived before an earlier one
	Repairs  atomic.Uint64 // pages read to fill holes
	Repeats  atomic.Uint64 // records that arrived again
	Gaps     atomic.Uint64 // holes that the log could not fill
	Drops    atomic.Uint64 // times that a feed dropped records, because its buffer was full
	Refused  atomic.Uint64 // rooms refused because of a limit
	Bad      atomic.Uint64 // messages that are no records, or that the gateway cannot open
	Lost     atomic.Uint64 // rooms that lost their members because the gateway cannot read the log
	LostEnds atomic.Uint64 // rooms whose log lacks records that members have seen
	Checks   atomic.Uint64 // rooms compared with the log
}

// Feeds follow rooms. Each feed follows the rooms of its own partitions. Apart from Run, which
// serves, the methods do not block; all are safe for concurrent use.
type Feeds struct {
	stats *Stats
	feeds []*feed
}

// New returns feeds that do nothing before Run. Ephemeral receives the messages on
// room.eph.<p>.<g> of the followed rooms.
func New(cfg Config, ephemeral chan *nats.Msg) *Feeds {
	fs := &Feeds{stats: new(Stats)}
	for range cfg.Feeds {
		fs.feeds = append(fs.feeds, newFeed(cfg, fs.stats, ephemeral))
	}
	return fs
}

// Stats returns the counters of all feeds.
func (fs *Feeds) Stats() *Stats { return fs.stats }

// Run serves over nc until ctx ends. Then it refuses the followers that wait for a room.
func (fs *Feeds) Run(ctx context.Context, nc *nats.Conn) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range fs.feeds {
		group.Go(func() error { return f.run(ctx, nc) })
	}
	return group.Wait()
}

func (fs *Feeds) of(room proto.Room) *feed { return fs.feeds[room.Partition()%len(fs.feeds)] }

// Follow begins to hand the room's events to f. It calls ready with the room's head: the
// first delivery has seq Head.Seq+1.
func (fs *Feeds) Follow(room proto.Room, f Follower, ready func(history.Head, error)) {
	feed := fs.of(room)
	if !feed.box.Put(func() { feed.follow(room, f, ready) }) {
		ready(history.Head{}, reads.Unavailable())
	}
}

// Unfollow ends the deliveries that Follow began. Some may still arrive. If the feed has not
// called ready yet, it calls ready with an error.
func (fs *Feeds) Unfollow(room proto.Room, f Follower) {
	feed := fs.of(room)
	feed.box.Put(func() { feed.unfollow(room, f) })
}

// Deliver hands an unnumbered delivery to the room's followers. It returns false after the end
// of Run.
func (fs *Feeds) Deliver(d Delivery) bool {
	feed := fs.of(d.Room)
	return feed.box.Put(func() {
		if r := feed.rooms.get(d.Room); r != nil {
			r.hand(d)
		}
	})
}

// Subscribe makes the feeds subscribe to room.out.<p>.<g> of their rooms. A caller of Receive does
// not need it. The caller calls it before Run.
func (fs *Feeds) Subscribe() {
	for _, f := range fs.feeds {
		f.subscribes = true
	}
}

// Receive accepts a record that the log holds. The records of a room come in order. If too many
// wait, the feed drops the record and reads it from the log later.
func (fs *Feeds) Receive(rec proto.Record) { fs.of(rec.Room).receive(rec) }

// Missed says that the log may hold records of a partition without a call of Receive for them.
func (fs *Feeds) Missed(partition int) {
	f := fs.feeds[partition%len(fs.feeds)]
	f.box.Put(func() { f.checks.all(func(r *room) bool { return r.name.Partition() == partition }) })
}

// CheckAll makes all feeds compare their rooms with the log, because NATS may have lost records.
func (fs *Feeds) CheckAll() {
	for _, f := range fs.feeds {
		f.box.Put(func() { f.checks.all(func(*room) bool { return true }) })
	}
}

// Dropped says that the NATS client has dropped messages of a subscription, because a feed was too
// slow. The feeds compare the rooms of that subscription with the log.
func (fs *Feeds) Dropped(sub *nats.Subscription) {
	fs.stats.Drops.Add(1)
	for _, f := range fs.feeds {
		f.box.Put(func() {
			f.checks.all(func(r *room) bool {
				return r.name.OutSubject() == sub.Subject || proto.OutPartition(r.name.Partition()) == sub.Subject
			})
		})
	}
}
