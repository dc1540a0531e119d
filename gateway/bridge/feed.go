package bridge

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
)

const (
	feedTick = 250 * time.Millisecond // how often what is put off is looked at
	fewRooms = 32                     // that are opened at the same time one by one
	maxOpens = 3                      // times, of readTime each, that a room's head is read before those who wait are refused
)

// feed follows the rooms of its partitions: what NATS sends for them comes in on one
// channel, and what is in order goes out to the followers. Everything is done by the
// goroutine in run; others put work into the queue do, which holds at most one item for
// each follower, member and pending read, and maxSignals signals.
type feed struct {
	b    *Bridge
	nc   *nats.Conn
	in   chan *nats.Msg
	do   *queue[func()]
	loud atomic.Int64 // signals in do
	home string       // prefix of the subjects on which other gateways tell us their counts

	// owned by run
	ctx        context.Context
	rooms      map[string]*room // by [proto.Room.Token]
	list       []*room          // the same, in no order
	cursor     int              // of list, for the checks that come by turns
	partitions [proto.Partitions]partition
	opening    []*room // whose head is to be read
	empty      []*room // that lost their last follower, the first one first
	soon       []check // in the order of their time
	retry      []*room // whose repair failed
	untold     []*room // whose loss no owner has confirmed
	restless   []*room // whose presence is to be told at the next tick
	ticks      int
}

// room is one followed room. It is owned by its feed.
type room struct {
	name      proto.Room
	place     int // in feed.list
	followers []Follower
	waiting   []waiter // for the head
	tail      tail
	live      bool      // the head is known
	reading   bool      // a read of the head or of a hole is on its way
	opens     int       // times that reading the head has failed in a row
	failures  int       // times that filling a hole has failed in a row, while the log could be reached
	checks    int       // in feed.soon
	lost      *lost     // what was shown and the log does not hold; nil = nothing
	emptied   time.Time // when the last follower left; zero = there are some
	out, eph  *nats.Subscription
	presence
}

type waiter struct {
	f     Follower
	ready func(history.Head, error)
}

func newFeed(b *Bridge) *feed {
	return &feed{b: b, in: make(chan *nats.Msg, b.cfg.FeedBuffer), do: newQueue[func()](), rooms: make(map[string]*room)}
}

// run serves until ctx ends; then those who wait are refused.
func (f *feed) run(ctx context.Context, nc *nats.Conn) error {
	f.ctx, f.nc = ctx, nc
	f.home = shownInbox(nc)
	if _, err := nc.ChanSubscribe(f.home+"*", f.in); err != nil {
		return err
	}
	ticker := time.NewTicker(feedTick)
	defer ticker.Stop()
	var batch []func()
	for {
		select {
		case <-ctx.Done():
			for _, do := range f.do.close() {
				do()
			}
			for _, r := range f.list {
				r.tell(history.Head{}, errUnavailable())
			}
			return nil
		case <-f.do.wake:
			batch = f.do.take(batch)
			for _, do := range batch {
				do()
			}
		case m := <-f.in:
			f.arrived(m)
			for range len(f.in) {
				f.arrived(<-f.in)
			}
		case now := <-ticker.C:
			f.tick(now)
		}
		if len(f.opening) > 0 {
			f.openWaiting()
		}
	}
}

// tick does what has been put off.
func (f *feed) tick(now time.Time) {
	f.ticks++
	f.dismiss(now)
	f.repairAgain()
	f.reportAgain()
	f.checkSoon(now)
	f.checkSome()
	f.tellRestless(now)
}

func (f *feed) follow(name proto.Room, who Follower, ready func(history.Head, error)) {
	if f.ctx.Err() != nil {
		ready(history.Head{}, errUnavailable())
		return
	}
	r := f.rooms[name.Token()]
	if r == nil {
		if !f.admit() {
			f.b.stat.refused.Add(1)
			ready(history.Head{}, errTooManyRooms(f.b.stat.followed.Load()))
			return
		}
		var err error
		if r, err = f.add(name); err != nil {
			f.b.cfg.Log.Error("room cannot be followed", "error", err)
			ready(history.Head{}, errUnavailable())
			return
		}
	}
	if r.live && len(r.followers) > 0 {
		ready(r.tail.head, nil)
		r.attach(who)
		return
	}
	// Without followers nobody looked after holes: what has been missed is not known.
	r.live = false
	r.emptied = time.Time{}
	r.waiting = append(r.waiting, waiter{who, ready})
	if !r.reading {
		f.open(r)
	}
}

// open has the room's head read, at the end of this turn.
func (f *feed) open(r *room) {
	r.reading = true
	f.opening = append(f.opening, r)
}

func (r *room) attach(who Follower) {
	r.followers = append(r.followers, who)
}

func (f *feed) unfollow(name proto.Room, who Follower) {
	r := f.rooms[name.Token()]
	if r == nil {
		return
	}
	for i, w := range r.waiting {
		if w.f == who {
			r.waiting = slices.Delete(r.waiting, i, i+1)
			w.ready(history.Head{}, errUnavailable())
			break
		}
	}
	if i := slices.Index(r.followers, who); i >= 0 {
		r.followers = slices.Delete(r.followers, i, i+1)
	}
	f.leaveIfEmpty(r)
}

// leaveIfEmpty has the room dismissed in a while if nobody follows it.
func (f *feed) leaveIfEmpty(r *room) {
	if len(r.followers) == 0 && len(r.waiting) == 0 && r.emptied.IsZero() {
		r.emptied = time.Now()
		f.empty = append(f.empty, r)
	}
}

// dismiss lets go of rooms that have been empty for long enough.
func (f *feed) dismiss(now time.Time) {
	n := 0
	for _, r := range f.empty {
		switch {
		case r.emptied.IsZero() || f.rooms[r.name.Token()] != r:
		case now.Sub(r.emptied) < f.b.cfg.Linger || r.reading:
			f.empty[n] = r
			n++
		default:
			f.remove(r)
		}
	}
	clear(f.empty[n:])
	f.empty = f.empty[:n]
}

// openWaiting reads the heads of rooms whose subscriptions have been made. What arrives
// in the meantime is held. A few rooms are read from the stream's leader; many at once,
// as when a gateway has died and its members come here, are read together from any
// replica, and compared again soon (see openedCheck).
func (f *feed) openWaiting() {
	rooms := f.opening
	f.opening = nil
	size := 1
	if len(rooms) > fewRooms {
		size = checkBatch
	}
	for some := range slices.Chunk(rooms, size) {
		f.b.readers.do(func(ctx context.Context) {
			heads, err := f.readHeadsOf(ctx, some)
			f.do.put(func() {
				for _, r := range some {
					f.opened(r, heads[r.name], err)
				}
			})
		}, func() { f.opening = append(f.opening, some...) })
	}
}

func (f *feed) readHeadsOf(ctx context.Context, rooms []*room) (heads map[proto.Room]history.Head, err error) {
	if err := f.nc.FlushWithContext(ctx); err != nil {
		return nil, err
	}
	free, err := f.b.roomForHeads(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	if len(rooms) == 1 {
		heads = map[proto.Room]history.Head{rooms[0].name: {Closed: true}} // in any case ask the leader
	} else {
		names := make([]proto.Room, len(rooms))
		for i, r := range rooms {
			names[i] = r.name
		}
		if heads, err = f.b.log.Heads(ctx, names); err != nil {
			return nil, err
		}
	}
	for name, head := range heads {
		if head.Closed { // why, the record itself must tell
			last, _, err := f.b.log.Last(ctx, name)
			if err != nil {
				return nil, err
			}
			heads[name] = history.HeadOf(last)
		}
	}
	return heads, nil
}

func (f *feed) opened(r *room, head history.Head, err error) {
	r.reading = false
	if err == nil {
		err = head.Err
	}
	if err != nil {
		f.b.cfg.Log.Warn("head of a room cannot be read", "room", r.name.String(), "error", err)
		// Whoever is refused comes back and asks for more than waiting costs: a NATS that is
		// slow because so many come at once would be given the same again and again.
		if r.opens++; r.opens < maxOpens && len(r.waiting) > 0 && errors.Is(err, context.DeadlineExceeded) {
			f.open(r)
			return
		}
		r.opens = 0
		r.tail.held = nil
		f.b.cannotRead(r.name, err, f.b.rereadHead(r.name))
		r.tell(history.Head{}, refusal(err))
		f.leaveIfEmpty(r)
		return
	}
	r.live, r.opens = true, 0
	waiting := r.waiting
	r.tell(head, nil)
	for _, w := range waiting {
		r.attach(w.f)
	}
	r.tail.begin(head, func(rec proto.Record) { f.show(r, rec) })
	f.mend(r)
	f.leaveIfEmpty(r)
	f.checkLater(r, openedCheck)
}

// tell answers those who wait for the head.
func (r *room) tell(head history.Head, err error) {
	for _, w := range r.waiting {
		w.ready(head, err)
	}
	r.waiting = nil
}

// arrived takes in one message of room.out or room.eph, a count of another gateway, or an
// owner's answer to a report.
func (f *feed) arrived(m *nats.Msg) {
	token := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	r := f.rooms[token]
	switch {
	case r == nil: // of a partition that is followed as a whole, or just dismissed
	case strings.HasPrefix(m.Subject, prefixOut):
		f.record(r, m)
	case strings.HasPrefix(m.Subject, prefixEph):
		f.ephemeral(r, m)
	case !strings.HasPrefix(m.Subject, f.home):
	case m.Header.Get(headerHere) != "":
		f.answered(r, m.Header.Get(headerHere))
	case m.Header.Get("Status") == "": // otherwise the server says that nobody listens
		f.confirmed(r)
	}
}

const (
	prefixLog = "room.log."
	prefixOut = "room.out."
	prefixEph = "room.eph."
	prefixWho = "room.who."
)

// republished reports whether the stream republished m from the log of the room that m
// came for. A message on room.out may also be an answer, to a request for a record of
// another room whose reply subject was this one.
func republished(m *nats.Msg) bool {
	stored, ok := strings.CutPrefix(m.Header.Get("Nats-Subject"), prefixLog)
	return ok && stored == m.Subject[len(prefixOut):]
}

func (f *feed) record(r *room, m *nats.Msg) {
	if !republished(m) {
		f.b.stat.bad.Add(1)
		return
	}
	rec, err := proto.ParseRecord(m.Subject, m.Header, m.Data)
	rec.Stream, _ = strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err == nil {
		err = f.b.cfg.Keys.OpenRecord(&rec, m.Header.Get(proto.HeaderRecord))
	}
	if err != nil {
		// The record is in the log all the same; if it is none there either, no reader
		// will ever miss it.
		f.b.stat.bad.Add(1)
		f.b.cfg.Log.Warn("republished record cannot be read", "room", r.name.String(), "error", err)
		if unreadable(err) != nil && r.live {
			r.tail.other = true // the log tells whether members miss it
			f.mend(r)
		}
		return
	}
	switch {
	case !r.live && len(r.waiting) == 0 && !r.reading:
		return
	case !r.live: // who comes while the head is being read waits for that head, too
		r.tail.hold(rec)
		return
	case rec.Seq <= r.tail.head.Seq && rec.State.Epoch == r.tail.head.Epoch:
		f.b.stat.repeats.Add(1)
	}
	before := r.tail.behind()
	r.tail.take(rec, func(rec proto.Record) { f.show(r, rec) })
	if r.tail.behind() && !before {
		f.b.stat.holes.Add(1)
	}
	f.mend(r)
}

func (f *feed) show(r *room, rec proto.Record) {
	f.hand(r, Delivery{
		Room: r.name, Seq: rec.Seq, Epoch: rec.State.Epoch, At: rec.State.At, Kind: rec.Kind,
		Stamp: rec.Stamp, Text: rec.Text, JSON: rec.Payload,
	})
}

func (f *feed) hand(r *room, d Delivery) {
	for _, who := range r.followers {
		who.Deliver(d)
	}
}
