// Package follow hands the records of rooms to the event loops that have members in them,
// in order, without holes and without repeats.
//
// Each feed follows the rooms of its partitions. A room's sequencer (sequencer.go) is the
// delivery rule. A feed reads the head of a new room (heads.go), reads from the log what
// the sequencer misses (repair.go), and compares its rooms with the log from time to time
// (check.go), because NATS does not report lost messages. If the log has lost records that
// members have seen, the feed reports that to the room's owner (lost.go).
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

// Follower is an event loop that has members. Feeds call its methods from their goroutines,
// so they must not block. Followers are compared: one loop is one follower.
type Follower interface {
	// Deliver hands over one thing that happened in a room. Numbered deliveries come in the
	// order of their seq, without holes and without repeats.
	Deliver(Delivery)
}

// Delivery is one event, signal or gap of a room. All loops share it: nobody may change it.
type Delivery struct {
	Room   proto.Room
	Seq    uint64 // 0 = not numbered: a signal, a join, a leave, or a gap
	Epoch  string // of Seq
	At     time.Time
	Kind   proto.EventKind
	Stamp  string
	Text   proto.Span // where the content stands in JSON
	JSON   []byte
	Origin string              // of a signal: the session that sent it and does not want it back
	Limits *proto.Restrictions // of the room after a numbered delivery or a gap; nil = none
	Gap    *proto.Gap          // not nil: the next delivery does not follow the last one; JSON announces it
	Lost   *proto.Refusal      // not nil: the room brings nothing more, for this reason
}

// Config sets the limits of the feeds.
type Config struct {
	Keys   *seal.Keys // nil = records travel in plain text
	Log    *slog.Logger
	Memory *limit.Budget // rooms count as limit.Rooms
	Reader *reads.Reader

	Feeds    int           // goroutines that follow rooms
	Buffer   int           // records that wait for one feed; more are dropped, and the feed reads them from the log
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
	Holes    atomic.Uint64 // records that arrived before the one that they follow
	Repairs  atomic.Uint64 // pages read to fill holes
	Repeats  atomic.Uint64 // records that arrived again
	Gaps     atomic.Uint64 // holes that nothing could fill
	Drops    atomic.Uint64 // times that records were dropped, because they came too fast
	Refused  atomic.Uint64 // rooms refused because of a limit
	Bad      atomic.Uint64 // messages that are no records, or that the gateway cannot open
	Lost     atomic.Uint64 // rooms whose members had to leave because the gateway cannot read on
	LostEnds atomic.Uint64 // rooms whose log lacks records that members have seen
	Checks   atomic.Uint64 // rooms compared with the log
}

// Feeds follow rooms. Each feed follows the rooms of its own partitions. Their methods are
// safe for concurrent use and do not block.
type Feeds struct {
	stats *Stats
	feeds []*feed
}

// New returns feeds that do nothing before Run. Ephemeral receives what arrives on
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

// Run serves over nc until ctx ends. Then it refuses those that wait for a room.
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

// Unfollow ends what Follow began. Deliveries that are under way may still arrive. If
// Follow has not called ready yet, it does so with an error.
func (fs *Feeds) Unfollow(room proto.Room, f Follower) {
	feed := fs.of(room)
	feed.box.Put(func() { feed.unfollow(room, f) })
}

// Deliver hands an unnumbered delivery to the room's followers. It reports false after Run
// has ended.
func (fs *Feeds) Deliver(d Delivery) bool {
	feed := fs.of(d.Room)
	return feed.box.Put(func() {
		if r := feed.rooms.get(d.Room); r != nil {
			r.hand(d)
		}
	})
}

// Subscribe makes the feeds subscribe to room.out.<p>.<g> of their rooms. The caller calls it
// before Run, or else passes records to Receive.
func (fs *Feeds) Subscribe() {
	for _, f := range fs.feeds {
		f.subscribes = true
	}
}

// Receive accepts a record that the log holds. Records of one room come in their order. If
// too many wait, the feed drops the record and reads it from the log later.
func (fs *Feeds) Receive(rec proto.Record) { fs.of(rec.Room).receive(rec) }

// Missed says that records of a partition may have been committed without a call of
// Receive.
func (fs *Feeds) Missed(partition int) {
	f := fs.feeds[partition%len(fs.feeds)]
	f.box.Put(func() { f.checks.all(func(r *room) bool { return r.name.Partition() == partition }) })
}

// CheckAll has all feeds compare their rooms with the log, because records may have been
// lost.
func (fs *Feeds) CheckAll() {
	for _, f := range fs.feeds {
		f.box.Put(func() { f.checks.all(func(*room) bool { return true }) })
	}
}

// Dropped reports that NATS has dropped messages of a subscription, because a feed was too
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
