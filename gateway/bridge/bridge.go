// Package bridge connects the event loops to NATS. It is the only package of the
// gateway that knows NATS: it says what members say, follows rooms and hands their
// records on in order, without holes and without repeats, reads history, and knows who
// is present.
package bridge

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/history"
	"roomcast/proto/seal"
)

// Follower is an event loop that has members. Its methods are called from goroutines of
// the bridge and must not block.
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
	Kind   proto.EventKind
	Stamp  string
	JSON   []byte
	Origin string     // of a signal: the session that sent it and does not want it back
	Gap    *proto.Gap // not nil: what comes next does not follow what came before; JSON announces it
}

// Say is one message or act for a room.
type Say struct {
	Room     proto.Room
	From     proto.Identity
	Content  proto.Content
	Act      proto.Act     // "" = a message; otherwise Content.Body is why
	Key      string        // "" = the bridge makes one
	Patience time.Duration // how long to hold and resend before it is refused as unavailable
}

// RoomInfo is one row of the list of rooms.
type RoomInfo struct {
	Room     proto.Room
	Messages uint64 // that the log still holds
}

// Config is what a bridge needs.
type Config struct {
	ID      string        // of this gateway, unique among all; of [A-Za-z0-9]
	Version string        // shown by nats micro ls
	Dial    daemon.Dialer // opens the connections
	Keys    *seal.Keys    // nil = payloads travel as they are
	Log     *slog.Logger
	Stats   func() any    // what nats micro stats shows beside requests; may be nil
	Linger  time.Duration // how long a room without members is still followed
}

// DefaultConfig returns the defaults; ID, Version and Dial are the caller's.
func DefaultConfig() Config {
	return Config{Log: slog.Default(), Linger: 15 * time.Second}
}

// Bridge is one gateway's side of NATS. Its methods never block; what they are given to
// call back is called exactly once, from a goroutine of the bridge.
type Bridge struct {
	cfg Config
}

// New returns a bridge that does nothing until Run.
func New(cfg Config) (*Bridge, error) { return &Bridge{cfg: cfg}, nil }

// Run connects and serves until ctx ends; then what is still asked for is refused.
func (b *Bridge) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready returns nil when NATS is connected and the secret is known.
func (b *Bridge) Ready() error { return errors.ErrUnsupported }

// Secret returns the key that signs resume strings, nil until it is known.
func (b *Bridge) Secret() []byte { return nil }

// Follow begins to hand the room's events to f. Ready is called with the head from which
// they go on: the first delivery has seq Head.Seq+1.
func (b *Bridge) Follow(room proto.Room, f Follower, ready func(history.Head, error)) {}

// Unfollow ends it. What is already on its way may still be delivered.
func (b *Bridge) Unfollow(room proto.Room, f Follower) {}

// Say sends s to the room's owner. Messages of one sender in one room are sent one after
// the other, each until it is answered.
func (b *Bridge) Say(s Say, done func(proto.Reply)) {}

// Read reads a page of history. Equal reads at the same time are made once.
func (b *Bridge) Read(q history.Query, done func(history.Page, error)) {}

// Signal tells those present something that is not stored. JSON is the whole frame,
// origin the session that does not want it back.
func (b *Bridge) Signal(room proto.Room, json []byte, origin string) {}

// Joined and Left tell those present who came and went. They may be made fewer: a room
// with much coming and going hears of counts only.
func (b *Bridge) Joined(room proto.Room, who proto.Identity)                         {}
func (b *Bridge) Left(room proto.Room, who proto.Identity, reason proto.LeaveReason) {}

// Members asks all gateways who is in the room.
func (b *Bridge) Members(room proto.Room, done func(count int, list []proto.Identity, err error)) {}

// Rooms lists the rooms that have a log.
func (b *Bridge) Rooms(done func([]RoomInfo, error)) {}
