// Package bridge connects the event loops to NATS. It is the only package of the
// gateway that knows NATS: it says what members say, follows rooms and hands their
// records on in order, without holes and without repeats, reads history, and knows who
// is present.
//
// What is said goes through lanes (say.go): one request outstanding for each sender in
// each room, resent until it is answered. What is committed comes in through feeds
// (feed.go), each of which owns the rooms of its partitions; a room's tail (tail.go) is
// the delivery rule, holes are filled from the log (repair.go). Readers (read.go) wait
// for the log. The roster (roster.go) knows the other gateways; presence.go counts
// members together with them.
//
// # What a gateway may do on NATS
//
// Gateways have an account of their own, EDGE in scripts/nats.conf, which lists what a
// gateway's user needs. Not even a gateway that was broken into can change what is in the
// log. It can still name any sender of a new message: roomsvc believes gateways.
//
// In one account without any restriction the same subjects work, except that the log is
// read by $JS.API. and not by room.js.; roomsvc tells which when it tells the keys.
package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"roomcast/gateway/limit"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/history"
	"roomcast/proto/seal"
)

// Follower is an event loop that has members. Its methods are called from goroutines of
// the bridge and must not block. Followers are compared: one loop is one follower.
type Follower interface {
	// Deliver hands on one thing that happened in a room: numbered ones in the order of
	// their seq, without holes and without repeats.
	Deliver(Delivery)
	// Who asks the loop who is in the room; answer may be called from any goroutine,
	// once, with at most proto.MaxListed identities.
	Who(room proto.Room, answer func(count int, list []proto.Identity))
}

// Delivery is one event, signal or gap of a room. It is shared by all loops: nobody may
// change it.
type Delivery struct {
	Room   proto.Room
	Seq    uint64 // 0 = not numbered: a signal, a join, a leave, or a gap
	Epoch  string // of Seq
	At     time.Time
	Kind   proto.EventKind
	Stamp  string
	Text   proto.Span // where the content stands in JSON
	JSON   []byte
	Origin string         // of a signal: the session that sent it and does not want it back
	Gap    *proto.Gap     // not nil: what comes next does not follow what came before; JSON announces it
	Lost   *proto.Refusal // not nil: nothing more of the room comes, and this is why
}

// Say is one message or act for a room.
type Say struct {
	Room     proto.Room
	From     proto.Identity
	Content  proto.Content
	Line     bool          // Content is a line that a person typed; see proto.Request
	Act      proto.Act     // "" = a message
	Why      string        // of an act
	Key      string        // "" = the bridge makes one
	Stream   bool          // more follows before the answer: while one is refused for now, the later ones wait for it (see limit.Resends)
	Patience time.Duration // how long to hold and resend before it is refused as unavailable; 0 = 2 s
}

// RoomInfo is one row of the list of rooms.
type RoomInfo struct {
	Room     proto.Room
	Messages uint64 // that the log still holds
}

// Config is what a bridge needs.
type Config struct {
	ID      string        // of this gateway, unique among all; of [A-Za-z0-9_-]
	Version string        // semantic, shown by nats micro ls
	Dial    daemon.Dialer // opens the connections
	Keys    *seal.Keys    // nil = payloads travel as they are
	Log     *slog.Logger
	Stats   func() any // what nats micro stats shows beside requests; may be nil

	Feeds       int           // goroutines that follow rooms
	FeedBuffer  int           // messages that wait for one of them; what comes beyond is dropped and read from the log
	Linger      time.Duration // how long a room without members is still followed
	Memory      *limit.Budget // for pages, for messages that wait to be stored and for rooms
	MaxRooms    int           // rooms that are followed; 0 = as many as Memory has room for
	MaxRequests int           // messages that wait to be stored
	MaxLane     int           // of them from one sender in one room
	LogMessages bool          // log one line for every message, without its text
}

// DefaultConfig returns the defaults; ID, Version and Dial are the caller's.
func DefaultConfig() Config {
	return Config{
		Version: "0.0.0", Log: slog.Default(), Feeds: min(4, runtime.GOMAXPROCS(0)), FeedBuffer: 1 << 13, Linger: 15 * time.Second,
		Memory: limit.NewBudget(256 << 20), MaxRequests: 1 << 16, MaxLane: 256,
	}
}

// Bridge is one gateway's side of NATS. It is safe for concurrent use. Its methods never
// block; what they are given to call back is called exactly once, from a goroutine of
// the bridge or, when something is refused at once, before they return.
//
// Three connections keep what is urgent apart from what is much: gateway/<id> takes in
// what rooms send, gateway/<id>/say sends what members say, gateway/<id>/read reads.
type Bridge struct {
	cfg     Config
	stat    *counters
	lanes   *lanes
	feeds   []*feed
	readers *readers
	roster  *roster
	shared  shared

	// set by Run before anything uses them
	feedConn *nats.Conn
	sayConn  *nats.Conn
	control  *nats.Conn
	log      *history.Log

	running atomic.Bool            // the connections have been made
	unread  atomic.Pointer[unread] // why the log cannot be read; nil = it can
	secret  atomic.Pointer[[]byte]
	waits   atomic.Pointer[error] // why the secret is not known yet
}

// New returns a bridge that does nothing until Run; what is asked of it waits.
func New(cfg Config) (*Bridge, error) {
	switch {
	case cfg.ID == "":
		return nil, errors.New("make bridge: it has no ID")
	case cfg.Dial == nil:
		return nil, errors.New("make bridge: it has no Dial")
	case cfg.Feeds < 1 || cfg.FeedBuffer < 1 || cfg.MaxRequests < 1 || cfg.MaxRooms < 0 || cfg.Memory == nil || cfg.MaxLane < 1:
		return nil, errors.New("make bridge: a limit is not positive")
	}
	b := &Bridge{cfg: cfg, stat: new(counters)}
	b.lanes = newLanes(cfg, b.stat)
	for range cfg.Feeds {
		b.feeds = append(b.feeds, newFeed(b))
	}
	b.readers = newReaders(b.stat)
	b.roster = newRoster(b)
	b.shared.pending = make(map[history.Query][]func(Page, error))
	return b, nil
}

// Run connects and serves until ctx ends; then what is still asked for is refused. It
// returns when everything it started has ended.
func (b *Bridge) Run(ctx context.Context) error {
	if err := b.connect(ctx); err != nil {
		return fmt.Errorf("run bridge: %w", err)
	}
	defer b.hangUp()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.lanes.run(ctx, b.sayConn) })
	for _, f := range b.feeds {
		group.Go(func() error { return f.run(ctx, b.feedConn) })
	}
	group.Go(func() error { b.readers.run(ctx); return nil })
	group.Go(func() error { return b.roster.run(ctx, b.feedConn) })
	group.Go(func() error { return b.watch(ctx) })
	group.Go(func() error { b.fetchSecret(ctx); return nil })
	group.Go(func() error { b.keepMoving(ctx); return nil })
	group.Go(func() error { b.watchUnread(ctx); return nil })
	group.Go(func() error { return b.serve(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("run bridge: %w", err)
	}
	return nil
}

// Ready returns nil when NATS is connected, the secret is known and this gateway can read
// the log.
func (b *Bridge) Ready() error {
	switch {
	case !b.running.Load() || !b.feedConn.IsConnected() || !b.sayConn.IsConnected() || !b.control.IsConnected():
		return errors.New("nats is not connected")
	case b.secret.Load() == nil:
		if err := b.waits.Load(); err != nil && errors.Is(*err, seal.ErrNoKey) {
			return *err
		}
		return errors.New("the secret of resume strings is not known yet; is a roomsvc running?")
	}
	return b.readable()
}

// Secret returns the key that signs resume strings, nil until it is known.
func (b *Bridge) Secret() []byte {
	if s := b.secret.Load(); s != nil {
		return *s
	}
	return nil
}

func (b *Bridge) feedOf(room proto.Room) *feed { return b.feeds[room.Partition()%len(b.feeds)] }

// eachFeed has do run on each feed.
func (b *Bridge) eachFeed(do func(f *feed)) {
	for _, f := range b.feeds {
		f.do.put(func() { do(f) })
	}
}

// Follow begins to hand the room's events to f. Ready is called with the head from which
// they go on: the first delivery has seq Head.Seq+1.
func (b *Bridge) Follow(room proto.Room, f Follower, ready func(history.Head, error)) {
	feed := b.feedOf(room)
	if !feed.do.put(func() { feed.follow(room, f, ready) }) {
		ready(history.Head{}, errUnavailable())
	}
}

// Unfollow ends it. What is already on its way may still be delivered; a Follow that
// is not ready yet is refused.
func (b *Bridge) Unfollow(room proto.Room, f Follower) {
	feed := b.feedOf(room)
	feed.do.put(func() { feed.unfollow(room, f) })
}

// Say sends s to the room's owner. Messages of one sender in one room are sent one after
// the other, each until it is answered.
func (b *Bridge) Say(s Say, done func(proto.Reply)) {
	if b.cfg.LogMessages {
		done = b.logging(s, done)
	}
	b.lanes.say(s, done)
}

// logging returns done with a line in the log before it.
func (b *Bridge) logging(s Say, done func(proto.Reply)) func(proto.Reply) {
	return func(r proto.Reply) {
		b.logMessage(&s, r)
		done(r)
	}
}

// logMessage logs one line about a message and its answer, as the room service does. The
// line never holds the text: its reader may not be allowed to read the room.
func (b *Bridge) logMessage(s *Say, r proto.Reply) {
	attrs := []any{"room", s.Room.String(), "from", s.From.ID, "kind", string(s.Content.Kind), "bytes", len(s.Content.Body)}
	switch {
	case r.Refusal != nil:
		attrs = append(attrs, "refused", string(r.Refusal.Code))
	case r.Close != 0:
		attrs = append(attrs, "close", r.Close.String())
	default:
		attrs = append(attrs, "seq", r.Seq, "duplicate", r.Duplicate)
	}
	if s.Act != "" {
		attrs = append(attrs, "act", string(s.Act))
	}
	b.cfg.Log.Info("message", attrs...)
}

// Read reads a page of history. Equal reads at the same time are made once, and share
// their records. Whoever is given a page releases it.
func (b *Bridge) Read(q history.Query, done func(Page, error)) { b.read(q, done) }

// Signal tells those present something that is not stored. JSON is the whole frame,
// which is copied, origin the session that does not want it back.
func (b *Bridge) Signal(room proto.Room, json []byte, origin string) {
	f := b.feedOf(room)
	size := len(json) + requestBytes
	if f.loud.Add(1) > maxSignals || !b.cfg.Memory.Take(limit.Says, size) {
		f.loud.Add(-1)
		b.stat.refused.Add(1)
		return
	}
	json = bytes.Clone(json)
	if !f.do.put(func() {
		f.signal(room, json, origin)
		b.cfg.Memory.Add(limit.Says, -size)
	}) {
		b.cfg.Memory.Add(limit.Says, -size)
	}
}

// Joined tells those present who has come. A room with much coming and going, or with
// more than proto.MaxListed members, hears of counts only, and not of each.
func (b *Bridge) Joined(room proto.Room, who proto.Identity) {
	f := b.feedOf(room)
	f.do.put(func() { f.joined(room, who) })
}

// Left tells those present who has gone, like Joined.
func (b *Bridge) Left(room proto.Room, who proto.Identity, reason proto.LeaveReason) {
	f := b.feedOf(room)
	f.do.put(func() { f.left(room, who, reason) })
}

// Members asks all gateways who is in the room: the count is exact, the list ends at
// proto.MaxListed. A gateway that does not answer within a second is left out.
func (b *Bridge) Members(room proto.Room, done func(count int, list []proto.Identity, err error)) {
	if !b.roster.asks.put(whoAsk{room, done}) {
		done(0, nil, errUnavailable())
	}
}

// Rooms lists the rooms that have a log, in no order.
func (b *Bridge) Rooms(done func([]RoomInfo, error)) {
	b.readers.do(func(ctx context.Context) {
		rooms, err := b.listRooms(ctx)
		if err != nil {
			b.cfg.Log.Warn("rooms cannot be listed", "error", err)
			err = refusal(err)
		}
		done(rooms, err)
	}, func() { done(nil, errOverloaded()) })
}
