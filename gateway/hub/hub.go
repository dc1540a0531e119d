// Package hub holds the rooms of one event loop and everything its connections are
// still to be sent.
//
// A room's events are encoded once and kept in a ring; each member is a cursor in it,
// so the common case is one write of the same bytes to everybody, a member that cannot
// take them is a cursor that lags, and a backlog costs memory once per room. What
// arrives while a ring is being written to its members goes out with the next pass,
// so that writes carry more the busier it gets and nobody waits when it is quiet.
//
// What is for one connection alone (answers, replays, pongs, the close frame) goes
// through its queue. A connection is written its queue first, then its rings; cursors
// stand at frame boundaries and the rest of a frame that was cut goes to the queue, so
// frames never mix and a close frame comes after everything that was due before it.
//
// A member the ring does not reach, be it new, resuming or overtaken, is served pages
// of the log until the ring reaches it: see catchup.go.
//
// Nothing is written outside of [Hub.Flush] and [Hub.Writable].
package hub

import (
	"log/slog"
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/reads"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/history"
)

// Config bounds what a hub holds.
type Config struct {
	// RoomBytes bounds one ring. A member that is further behind is overtaken: it goes
	// on from the log, a text session is closed as slow.
	RoomBytes int

	// QueueBytes bounds what waits for one connection alone that takes nothing. Above it
	// the connection is told to be slow.
	QueueBytes int

	// Memory is what rings, queues, pages and deliveries are taken from, shared with other
	// hubs. While it is full rings shrink and so overtake sooner, and a connection that
	// takes nothing is told to be slow at once.
	Memory *limit.Budget

	// InboxBytes bounds deliveries that wait for the loop. Above it they are let go,
	// and read from the log by all members of their rooms.
	InboxBytes int

	// Quiet is how long a ring that nobody needs outlives its last event, so that
	// whoever comes back at once is answered from memory.
	Quiet time.Duration

	// Name tells this hub's connections from those of all others, see [Hub.Session].
	Name string

	Log *slog.Logger
}

// DefaultConfig returns the defaults; Name is the caller's.
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

// Conns are the connections of a loop; *[loop.Loop] has them.
type Conns interface {
	Write(id loop.ID, p []byte) int
	Post(f func()) bool
	Now() time.Time
}

// Log is where events come from; *[bridge.Bridge] has it.
type Log interface {
	Follow(room proto.Room, f follow.Follower, ready func(history.Head, error))
	Unfollow(room proto.Room, f follow.Follower)
	Read(q history.Query, done func(reads.Page, error))
}

// Sessions is who the hub works for. It is called on the loop, never while the hub is in
// the midst of something, and not before the call that caused it has returned.
type Sessions interface {
	// Told reports what became of a connection's memberships and bytes. The connection
	// may be gone by then.
	Told(id loop.ID, n Notice)
	// Identity says who a member is.
	Identity(id loop.ID) proto.Identity
}

// Notice is what a hub has to say about one connection.
type Notice struct {
	Kind NoticeKind
	Room proto.Room
	Head history.Head // of Joined
	Why  string       // of Closed
	Err  error        // of Refused, and of Lost if trying again is of no use
}

// NoticeKind is the kind of a notice.
type NoticeKind uint8

// The notices.
const (
	Joined  NoticeKind = iota // the connection is a member; what it asked to see follows what is sent now
	Refused                   // the room cannot be followed; it is no member
	Closed                    // the room has been closed, as it has been shown; it is still a member
	Lost                      // the log cannot be read on; it would miss events
	Slow                      // it does not read, and the bound is reached
	Blocked                   // it takes no more bytes for now; ask Stuck later
	Drained                   // its queue is empty: after Close, or as TellDrained asked for
)

// Hub is owned by its loop's goroutine. Only what [follow.Follower] asks for, on its
// inbox, may be called from elsewhere.
type Hub struct {
	// static
	cfg      Config
	conns    Conns
	log      Log
	sessions Sessions
	stats    *Stats
	inbox    inbox
	begun    time.Time
	after    func(time.Duration, func()) // time.AfterFunc; once the loop has ended, what it calls does nothing

	// owned by the loop
	slab      []*[slabSize]conn
	many      [][]place // the places of connections in several rooms
	freeMany  []uint32
	queues    []queue
	freeQueue []uint32
	spare     [][]byte // queue buffers to be used again
	rooms     map[proto.Room]*room
	rings     []*ring // by ring.self; nil = free
	freeRings []uint32
	catching  map[seat]*catchup

	talkers fifo[uint32] // slots whose queue is to be written
	dirty   fifo[*ring]  // rings that have bytes for members
	warm    []*ring      // rings that hold a buffer
	notices []told

	tally    tally      // what stats do not have yet
	rung     limit.Part // bytes of rings
	due      limit.Part // bytes of queues
	second   uint32
	waking   bool // a timer will bring about another sweep
	deflater wire.Deflater
	scratch  []byte
}

type told struct {
	id loop.ID
	n  Notice
}

// New returns an empty hub.
func New(cfg Config, conns Conns, log Log, sessions Sessions) *Hub {
	h := &Hub{
		cfg: cfg, conns: conns, log: log, sessions: sessions, stats: new(Stats), begun: conns.Now(),
		rooms: make(map[proto.Room]*room), catching: make(map[seat]*catchup),
		rung: cfg.Memory.Part(limit.Rings), due: cfg.Memory.Part(limit.Queues),
	}
	h.inbox.hub, h.inbox.held = h, cfg.Memory.Part(limit.Inboxes)
	h.after = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	return h
}

// Stats returns the hub's counters, which may be read from anywhere.
func (h *Hub) Stats() *Stats { return h.stats }

// Flush hands out what has gathered, at most about budget writes, and reports whether
// there is more to do at once. It is called at the end of each iteration of the loop.
func (h *Hub) Flush(budget int) (busy bool) {
	h.sweep()
	h.dispatch()
	// Neither answers nor events may starve the other.
	for n := budget / 2; n > 0 && h.talkers.len() > 0; n-- {
		c := h.conn(h.talkers.pop())
		c.flags &^= listed
		h.pump(c)
	}
	h.fanOut(budget)
	h.dispatch()
	h.stats.add(&h.tally)
	return h.talkers.len() > 0 || h.dirty.len() > 0
}

// Post has f run on the loop, after everything the hub has been given before by the
// same goroutine; any goroutine may call it.
func (h *Hub) Post(f func()) { h.inbox.put(f) }

// dispatch tells the sessions what has happened. It is put off until where it is called,
// so that no session acts while the hub is in the midst of something.
func (h *Hub) dispatch() {
	for i := 0; i < len(h.notices); i++ {
		t := h.notices[i]
		h.sessions.Told(t.id, t.n)
		if t.n.Kind == Joined {
			h.begin(t.id, t.n.Room, t.n.Head)
		}
	}
	clear(h.notices)
	h.notices = h.notices[:0]
}

// seconds counts from the hub's beginning, where it is 1, so that 0 can mean never. It
// does not jump when the system's clock is set.
func (h *Hub) seconds() uint32 { return uint32(h.conns.Now().Sub(h.begun)/time.Second) + 1 }

func (h *Hub) tell(id loop.ID, n Notice) { h.notices = append(h.notices, told{id, n}) }

// sweepAgain is how soon a sweep is followed by another if nothing else wakes the loop.
const sweepAgain = 2 * time.Second

// sweep gives back, once a second, the buffers of rings that are quiet and needed by
// nobody.
func (h *Hub) sweep() {
	now := h.seconds()
	if now == h.second {
		return
	}
	h.second = now
	quiet := uint32(h.cfg.Quiet / time.Second)
	if h.full() {
		quiet = 0
	}
	keep := h.warm[:0]
	for _, r := range h.warm {
		if len(r.members) > 0 && (now-r.used <= quiet || r.needed() < r.head()) {
			keep = append(keep, r)
			continue
		}
		r.base, r.warm = r.head(), false
		h.rung.Add(-r.size())
		r.buf, r.frames = nil, nil
	}
	clear(h.warm[len(keep):])
	h.warm = keep
	switch {
	case len(h.warm) == 0:
		clear(h.spare)
		h.spare = h.spare[:0]
	case !h.waking:
		// A loop whose connections have gone quiet sleeps; its buffers are to go all the same.
		h.waking = true
		h.after(sweepAgain, func() { h.Post(func() { h.waking = false }) })
	}
	h.rung.Settle()
	h.due.Settle()
}

// full reports whether all memory is in use that the hub and the others may hold.
func (h *Hub) full() bool { return h.cfg.Memory.Full() }
