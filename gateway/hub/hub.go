// Package hub holds the rooms of one event loop and writes to their members.
//
// A room's events are encoded once for each format and kept in a ring (package ring). Each member
// is a cursor in it. In the common case one write of the same bytes goes to every member; a slow
// member is a cursor that lags, and a backlog costs memory once per room. Events that arrive while
// the hub writes a ring leave with its next pass. So writes get larger under load, and no event
// waits while the load is low.
//
// Bytes for one connection alone (answers, replays, the close frame) go through its queue (package
// outbox). The hub writes a connection's queue first, then its rings. Cursors stand at frame
// boundaries; if a write cuts a frame, the rest of the frame goes to the queue. So frames never
// mix, and a close frame comes after everything that was due before it.
//
// A member that is new, resumes or has fallen behind may need events that are no longer in the
// ring. The hub sends it pages of the log (package replay) until the ring has its next event.
//
// Nothing is written outside of [Hub.Flush] and [Hub.Writable].
//
// # Reading order
//
// This file: the hub and its turn in Flush. member.go: the methods for sessions. room.go
// and deliver.go: rooms and their events. fanout.go: from rings to members.
// catchup.go: from the log to members. intake.go: from other goroutines to the loop.
package hub

import (
	"log/slog"
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/hub/outbox"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// Config has the formats and bounds of a hub.
type Config struct {
	// Formats are the ways in which connections are shown events, see [Hub.Open].
	Formats []FormatConfig

	// RoomBytes bounds one ring. A member that is further behind is served from the log, or is slow
	// if its format shows no gaps.
	RoomBytes int

	// QueueBytes bounds the queue of a connection that takes no bytes. Above it the connection is
	// slow.
	QueueBytes int

	// Memory is the budget of rings, queues, pages and deliveries, shared with other hubs. While it
	// is full, rings shrink, so members fall behind sooner. A connection that takes nothing is then
	// slow at once.
	Memory *limit.Budget

	// InboxBytes bounds deliveries that wait for the loop. Above it they are dropped, and
	// all members of their rooms read them from the log.
	InboxBytes int

	// Quiet is how long a ring that no member needs outlives its last event, so that a
	// client that comes back at once is answered from memory.
	Quiet time.Duration

	// Name distinguishes this hub's connections from those of all others, see [Hub.Session].
	Name string

	Log *slog.Logger
}

// DefaultConfig returns the defaults; the caller sets Formats and Name.
func DefaultConfig() Config {
	return Config{
		RoomBytes:  256 << 10,
		QueueBytes: 256 << 10,
		Memory:     limit.NewBudget(256 << 20),
		InboxBytes: 32 << 20,
		Quiet:      10 * time.Second,
		Log:        slog.Default(),
	}
}

// Conns writes to the connections of a loop; *[loop.Loop] implements it.
type Conns interface {
	outbox.Writer
	Wake()
	Now() time.Time
}

// Log supplies events; *[bridge.Bridge] implements it.
type Log interface {
	Follow(room proto.Room, f follow.Follower, ready func(history.Head, error))
	Unfollow(room proto.Room, f follow.Follower)
	Read(q history.Query, done func(reads.Page, error))
}

// Sessions use the hub. The hub calls them on the loop, from Flush only, and never in the middle of
// another operation.
type Sessions interface {
	// OnNotice reports what became of a connection's memberships and bytes. The connection
	// may be gone by then.
	OnNotice(id loop.ID, n Notice)
}

// Hub is owned by its loop's goroutine. Only Post, and the [follow.Follower] that the hub
// gives to Log, may be used from elsewhere.
type Hub struct {
	// static
	cfg      Config
	sessions Sessions
	stats    *Stats
	clock    *clock
	intake   *intake

	// owned by the loop; each part uses only the parts above it
	conns    *conns
	out      *outbox.Outbox
	encoder  *encoder
	fanout   *fanout
	catchups *catchups
	dispatch *dispatcher
	rooms    *rooms
	waking   bool // a timer will wake the loop for another sweep
}

// clock reads the time, and runs functions later on the loop.
type clock struct {
	loop  Conns
	begun time.Time
	after func(time.Duration, func()) // time.AfterFunc, except in tests
	post  func(func())
}

func (c *clock) now() time.Time { return c.loop.Now() }

// second counts from the hub's beginning, where it is 1, so that 0 can mean never. It does
// not jump when the system's clock is set.
func (c *clock) second() uint32 { return uint32(c.now().Sub(c.begun)/time.Second) + 1 }

func (c *clock) later(d time.Duration, f func()) { c.after(d, func() { c.post(f) }) }

// New returns an empty hub.
func New(cfg Config, loop Conns, log Log, sessions Sessions) *Hub {
	h := &Hub{
		cfg: cfg, sessions: sessions, stats: new(Stats), conns: new(conns),
		intake: newIntake(cfg.InboxBytes, cfg.Memory, loop.Wake),
		out:    outbox.New(loop, cfg.Memory),
	}
	h.clock = &clock{loop: loop, begun: loop.Now(), post: h.intake.post}
	h.clock.after = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	h.encoder = &encoder{formats: cfg.Formats, stats: h.stats, slog: cfg.Log}
	h.fanout = &fanout{conns: h.conns, out: h.out, clock: h.clock, held: cfg.Memory.Part(limit.Rings)}
	notices := new(notices)
	h.catchups = &catchups{
		conns: h.conns, out: h.out, fanout: h.fanout, encoder: h.encoder, notices: notices, clock: h.clock,
		log: log, stats: h.stats, members: make(map[memberKey]*catchup),
	}
	h.dispatch = &dispatcher{notices: notices, sessions: sessions, conns: h.conns, catchups: h.catchups}
	h.rooms = &rooms{
		cfg: cfg, conns: h.conns, fanout: h.fanout, catchups: h.catchups, encoder: h.encoder, dispatch: h.dispatch,
		clock: h.clock, log: log, follower: h.intake, stats: h.stats, byName: make(map[proto.Room]*room),
	}
	return h
}

// Stats returns the hub's counters, which may be read from anywhere.
func (h *Hub) Stats() *Stats { return h.stats }

// Post runs f on the loop, after everything that the same goroutine has given the hub before. Any
// goroutine may call it.
func (h *Hub) Post(f func()) { h.intake.post(f) }

// Flush handles the work of other goroutines and writes the gathered bytes, with about budget
// writes at most. It reports whether more work is waiting. The loop calls it at the end of each
// iteration.
func (h *Hub) Flush(budget int) (busy bool) {
	h.receive()
	h.sweep()
	h.dispatch.run()
	// Neither answers nor events may starve the other.
	for n := budget / 2; n > 0 && h.out.Pending() > 0; n-- {
		c := h.conns.at(h.out.Next())
		c.out.Begin()
		h.pump(c)
	}
	h.fanout.run(budget)
	h.noteBlocked()
	h.dispatch.run()
	h.stats.add(&h.fanout.deliveries, &h.out.Writes, &h.out.Bytes)
	return h.out.Pending() > 0 || h.fanout.dirty.Len() > 0
}

// receive handles everything that has come since the last turn.
func (h *Hub) receive() {
	if h.intake.box.Empty() {
		return
	}
	b := h.intake.take()
	for i := range b.items {
		switch it := &b.items[i]; {
		case it.do != nil:
			it.do()
		default:
			h.rooms.deliver(&it.delivery, slotOf(it.delivery.Origin, h.cfg.Name))
		}
	}
	for name, m := range b.dropped {
		h.rooms.deliverDropped(name, &m)
	}
	if b.bytes > 0 {
		h.intake.done(&b)
	}
	h.stats.InboxDrops.Add(b.drops)
}

// sweepAgain is the time until the next sweep if nothing else wakes the loop.
const sweepAgain = 2 * time.Second

// sweep frees the buffers of quiet rings, once a second.
func (h *Hub) sweep() {
	now := h.clock.second()
	if now == h.rooms.second {
		return
	}
	h.rooms.second = now
	quiet := uint32(h.cfg.Quiet / time.Second)
	if h.cfg.Memory.Full() {
		quiet = 0
	}
	if some := h.fanout.sweep(now, quiet); !some {
		h.out.FreeSpare()
	} else if !h.waking {
		// A loop whose connections have gone quiet sleeps, but its buffers have to be freed.
		h.waking = true
		h.clock.later(sweepAgain, func() { h.waking = false })
	}
	h.out.Settle()
}
