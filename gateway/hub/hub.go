// Package hub manages the rooms of one event loop and writes events to their members.
//
// The hub encodes each event of a room once for each format, and keeps the frame in a ring (package
// ring). For each member it keeps a cursor, which is a position in the ring. Usually all members
// are at the same position, and one write of the same bytes goes to each. The cursor of a slow
// member lags behind. The ring keeps each frame once, as long as any slow member still needs it. If
// events arrive while the hub writes a ring, they are written together in the next pass. So under
// load the writes get larger, and without load no event waits.
//
// Bytes that are for one connection only, such as answers, replays and the close frame, go
// through the connection's queue (package outbox). The hub writes a connection's queue before
// its rings. Cursors are at the beginning of frames. If a write ends in the middle of a frame,
// the rest of the frame goes to the queue. So frames are never mixed, and a close frame comes
// after all earlier bytes.
//
// A member that has just joined, resumes or has fallen behind may need events that the ring no
// longer contains. The hub sends it pages of the log (package replay) until the ring contains
// the member's next event.
//
// The hub writes to connections only during [Hub.Flush] and [Hub.Writable].
//
// # Reading order
//
// This file has the hub and its work in Flush. member.go has the methods for sessions. room.go
// and deliver.go handle rooms and their events. fanout.go writes rings to members. catchup.go
// sends pages of the log to members. intake.go brings work from other goroutines to the loop.
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

// Config contains the formats and limits of a hub.
type Config struct {
	// Formats are the formats in which connections can receive events; see [Hub.Open].
	Formats []FormatConfig

	// RoomBytes bounds one ring. If a member lags further behind, the hub serves it from the log. If
	// the member's format cannot express gaps, the hub treats the member as slow instead.
	RoomBytes int

	// QueueBytes bounds the queue of a connection whose client does not read. If more bytes
	// wait, the hub treats the client as slow.
	QueueBytes int

	// Memory is the budget of rings, queues, pages and deliveries. Other hubs share it. While
	// the budget is full, rings shrink, so members fall behind sooner. The hub then treats a
	// connection as slow as soon as it accepts no bytes.
	Memory *limit.Budget

	// InboxBytes bounds the deliveries that wait for the loop. The hub drops further deliveries. The
	// members of the rooms concerned then receive the events from the log.
	InboxBytes int

	// Quiet is how long a ring keeps frames that all members have received, counted from its
	// last event. A client that reconnects within this time is served from memory.
	Quiet time.Duration

	// Name distinguishes the sessions of this hub from the sessions of all other hubs; see
	// [Hub.Session].
	Name string

	Log *slog.Logger
}

// DefaultConfig returns the defaults. The caller sets Formats and Name.
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

// Conns writes to the connections of a loop. *[loop.Loop] implements it.
type Conns interface {
	outbox.Writer
	Wake()
	Now() time.Time
}

// Log delivers events and reads pages. *[bridge.Bridge] implements it.
type Log interface {
	Follow(room proto.Room, f follow.Follower, ready func(history.Head, error))
	Unfollow(room proto.Room, f follow.Follower)
	Read(q history.Query, done func(reads.Page, error))
}

// Sessions handles notices. The user of the hub implements it. The hub calls it on the loop, only
// from Flush, and never in the middle of another operation.
type Sessions interface {
	// OnNotice reports a change of a connection or of one of its memberships. The connection may
	// have ended meanwhile.
	OnNotice(id loop.ID, n Notice)
}

// Hub is the hub of one event loop. The loop's goroutine owns it. Other goroutines may use only
// Post, and the [follow.Follower] that the hub passes to Log.
type Hub struct {
	// static
	cfg      Config
	sessions Sessions
	stats    *Stats
	clock    *clock
	intake   *intake

	// Owned by the loop. Each part uses only the parts above it.
	conns    *conns
	out      *outbox.Outbox
	encoder  *encoder
	fanout   *fanout
	catchups *catchups
	dispatch *dispatcher
	rooms    *rooms
	waking   bool // a timer is running that will wake the loop for a sweep
}

// clock reads the time, and schedules functions that run on the loop.
type clock struct {
	loop  Conns
	begun time.Time
	after func(time.Duration, func()) // time.AfterFunc, except in tests
	post  func(func())
}

func (c *clock) now() time.Time { return c.loop.Now() }

// second returns the seconds since the hub was made, plus 1, so that 0 can mean never. It does
// not jump when the system's clock is set.
func (c *clock) second() uint32 { return uint32(c.now().Sub(c.begun)/time.Second) + 1 }

func (c *clock) later(d time.Duration, f func()) { c.after(d, func() { c.post(f) }) }

// New returns a hub without connections and rooms.
func New(cfg Config, loop Conns, log Log, sessions Sessions) *Hub {
	h := &Hub{
		cfg: cfg, sessions: sessions, stats: new(Stats), conns: new(conns),
		intake: newIntake(cfg.InboxBytes, cfg.Memory, loop.Wake),
		out:    outbox.New(loop, cfg.Memory, cfg.QueueBytes),
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

// Stats returns the hub's counters. Any goroutine may read them.
func (h *Hub) Stats() *Stats { return h.stats }

// Post makes the loop run f. Work that the same goroutine has passed to the hub earlier comes
// first. Any goroutine may call it.
func (h *Hub) Post(f func()) { h.intake.post(f) }

// Flush handles the work that other goroutines have passed to the hub. Then it writes bytes to
// connections. One call makes at most about budget writes. Flush reports whether more work is
// waiting. The loop calls Flush at the end of each iteration.
func (h *Hub) Flush(budget int) (busy bool) {
	h.receive()
	h.sweep()
	h.dispatch.run()
	// Queues get half of the budget, so that neither answers nor events starve the other.
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

// receive handles the work that other goroutines have passed to the hub since its last call.
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

// sweep frees the buffers of quiet rings. It does so at most once a second.
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
		// If all connections are quiet, the loop sleeps. A timer must wake it to free the
		// buffers.
		h.waking = true
		h.clock.later(sweepAgain, func() { h.waking = false })
	}
	h.out.Settle()
}
