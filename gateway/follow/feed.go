package follow

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/limit"
	"roomcast/gateway/mailbox"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// feedTick is the time between two runs of a feed's periodic work.
const feedTick = 250 * time.Millisecond

// feed follows the rooms of its partitions. All its work happens in the goroutine of run. Other
// goroutines put functions into the box. There is at most one function for each follower, each
// read in progress, and each delivery without a number.
type feed struct {
	// static
	cfg       Config
	stats     *Stats
	box       *mailbox.Box[func()]
	in        chan *nats.Msg // messages from NATS
	ephemeral chan *nats.Msg
	records   *mailbox.Box[proto.Record] // records from the room service in the same process
	dropped   atomic.Bool                // a record did not fit into records, and a comparison with the log is queued

	subscribes bool // the records come from subscriptions to room.out, not through receive; set before run

	// owned by run
	ctx      context.Context
	rooms    *table
	interest *Interest
	heads    heads
	repairs  repairs
	checks   checker
	reports  reports
	ticks    int
}

// shared contains the fields that the feed shares with its checker, heads and repairs.
type shared struct {
	rooms  *table
	reader *reads.Reader
	box    *mailbox.Box[func()]
	stats  *Stats
	log    *slog.Logger
}

func newFeed(cfg Config, stats *Stats, ephemeral chan *nats.Msg) *feed {
	f := &feed{
		cfg: cfg, stats: stats, box: mailbox.New[func()](), in: make(chan *nats.Msg, cfg.Buffer), ephemeral: ephemeral,
		records: mailbox.NewBounded[proto.Record](cfg.Buffer*recordBytes, nil),
		rooms:   &table{byToken: make(map[string]*room)},
	}
	shared := shared{f.rooms, cfg.Reader, f.box, stats, cfg.Log}
	f.reports = reports{stats: stats}
	f.repairs = repairs{shared: shared, reports: &f.reports}
	f.checks = checker{shared: shared, reports: &f.reports, repairs: &f.repairs}
	f.heads = heads{shared: shared, repairs: &f.repairs, checks: &f.checks}
	return f
}

// run runs the feed until ctx ends.
func (f *feed) run(ctx context.Context, nc *nats.Conn) error {
	f.ctx = ctx
	subjects := []Subjects{{Room: proto.Room.EphemeralSubject, Partition: proto.EphemeralPartition, To: f.ephemeral}}
	if f.subscribes {
		subjects = append(subjects, Subjects{Room: proto.Room.OutSubject, Partition: proto.OutPartition, To: f.in})
	}
	f.interest = NewInterest(nc, f.cfg.Log, subjects...)
	if !f.subscribes { // no other gateway shares the log, so all messages of a partition are about our own rooms
		f.interest.wideFrom = 1
	}
	f.heads.nc, f.checks.nc, f.reports.nc = nc, nc, nc
	f.reports.inbox = Inbox(nc)
	if _, err := nc.ChanSubscribe(f.reports.inbox+"*", f.in); err != nil {
		return err
	}
	ticker := time.NewTicker(feedTick)
	defer ticker.Stop()
	var batch []func()
	var records []proto.Record
	for {
		select {
		case <-ctx.Done():
			for _, do := range f.box.Close() {
				do()
			}
			for _, r := range f.rooms.list {
				r.answer(history.Head{}, reads.Unavailable())
			}
			return nil
		case <-f.box.Wake():
			batch = f.box.Take(batch)
			for _, do := range batch {
				do()
			}
		case m := <-f.in:
			f.arrived(m)
			for range len(f.in) {
				f.arrived(<-f.in)
			}
		case <-f.records.Wake():
			records = f.records.Take(records)
			for i := range records {
				if r := f.rooms.get(records[i].Room); r != nil {
					f.take(r, records[i])
				}
			}
		case now := <-ticker.C:
			f.tick(now)
		}
		f.heads.read()
	}
}

// tick does the feed's periodic work, every feedTick.
func (f *feed) tick(now time.Time) {
	f.ticks++
	f.removeEmpty(now)
	f.repairs.retryFailed()
	f.reports.send(f.ticks)
	f.checks.due(now)
	f.checks.compareSome(f.ticks)
}

func (f *feed) follow(name proto.Room, who Follower, ready func(history.Head, error)) {
	if f.ctx.Err() != nil {
		ready(history.Head{}, reads.Unavailable())
		return
	}
	r := f.rooms.get(name)
	if r == nil {
		if !f.admit() {
			f.stats.Refused.Add(1)
			ready(history.Head{}, tooManyRooms(f.stats.Rooms.Load()))
			return
		}
		if err := f.interest.Add(name); err != nil {
			f.cfg.Log.Error("follow room", "room", name.String(), "error", err)
			ready(history.Head{}, reads.Unavailable())
			return
		}
		r = f.rooms.add(name)
		f.stats.Rooms.Add(1)
		f.cfg.Memory.Add(limit.Rooms, roomBytes)
	}
	if r.live && len(r.followers) > 0 {
		ready(r.sequencer.head, nil)
		r.followers = append(r.followers, who)
		return
	}
	// The feed repairs holes only for followers. So a room that had no follower until now may
	// lack records, and its head must be read again.
	r.live = false
	r.emptied = time.Time{}
	r.waiting = append(r.waiting, waiter{who, ready})
	if !r.reading {
		f.rooms.open(r)
	}
}

func tooManyRooms(n int64) error {
	return proto.Refuse(proto.Overloaded,
		"this gateway already serves %d rooms and opens no other; join a room that it serves, or try again later", n).After(time.Second)
}

func (f *feed) unfollow(name proto.Room, who Follower) {
	r := f.rooms.get(name)
	if r == nil {
		return
	}
	if i := slices.IndexFunc(r.waiting, func(w waiter) bool { return w.f == who }); i >= 0 {
		w := r.waiting[i]
		r.waiting = slices.Delete(r.waiting, i, i+1)
		w.ready(history.Head{}, reads.Unavailable())
	}
	if i := slices.Index(r.followers, who); i >= 0 {
		r.followers = slices.Delete(r.followers, i, i+1)
	}
	f.rooms.noteEmpty(r)
}

// roomBytes is roughly the memory of one followed room, in a feed and in a hub together.
const roomBytes = 5 << 10

// admit reports whether the feed may follow one more room. If there is no space, admit first
// removes empty rooms, which are kept only in case their members return.
func (f *feed) admit() bool {
	for {
		most := int64(f.cfg.MaxRooms)
		if (most == 0 || f.stats.Rooms.Load() < most) && f.cfg.Memory.Has(limit.Rooms, roomBytes) {
			return true
		}
		empty := f.rooms.empty
		i := slices.IndexFunc(empty, func(r *room) bool { return !r.emptied.IsZero() && !r.reading && !r.removed })
		if i < 0 {
			return false
		}
		f.remove(empty[i])
		f.rooms.empty = slices.Delete(empty, i, i+1)
	}
}

// removeEmpty removes the rooms that have had no followers for cfg.Linger.
func (f *feed) removeEmpty(now time.Time) {
	f.rooms.empty = slices.DeleteFunc(f.rooms.empty, func(r *room) bool {
		switch {
		case r.emptied.IsZero() || r.removed:
		case now.Sub(r.emptied) < f.cfg.Linger || r.reading:
			return false
		default:
			f.remove(r)
		}
		return true
	})
}

func (f *feed) remove(r *room) {
	f.rooms.remove(r)
	f.interest.Remove(r.name)
	f.stats.Rooms.Add(-1)
	f.cfg.Memory.Add(limit.Rooms, -roomBytes)
}

const (
	prefixLog = "room.log."
	prefixOut = "room.out."
)

// arrived handles a message on room.out, or an owner's answer to a report of lost records.
func (f *feed) arrived(m *nats.Msg) {
	r := f.rooms.byToken[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]]
	switch {
	case r == nil: // the feed has subscribed to the whole partition, or has just removed the room
	case strings.HasPrefix(m.Subject, prefixOut):
		f.record(r, m)
	case m.Header.Get("Status") == "": // if there is a status, no owner has received the report
		f.reports.confirmed(r)
	}
}

// republished reports whether the stream has republished m from the log of the room in m's subject.
// A client can make the stream send other records to this subject: it requests a record of another
// room, and names this subject for the reply.
func republished(m *nats.Msg) bool {
	stored, ok := strings.CutPrefix(m.Header.Get("Nats-Subject"), prefixLog)
	return ok && stored == m.Subject[len(prefixOut):]
}

func (f *feed) record(r *room, m *nats.Msg) {
	if !republished(m) {
		f.stats.Bad.Add(1)
		return
	}
	rec, err := proto.ParseRecord(m.Subject, m.Header, m.Data)
	rec.Stream, _ = strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err == nil {
		err = f.cfg.Keys.OpenRecord(&rec, m.Header.Get(proto.HeaderRecord))
	}
	if err != nil {
		f.stats.Bad.Add(1)
		f.cfg.Log.Warn("read republished record", "room", r.name.String(), "error", err)
		if reads.Unreadable(err) != nil && r.live {
			r.sequencer.other = true // read the log, to find out whether members miss this record
			f.repairs.begin(r)
		}
		return
	}
	f.take(r, rec)
}

// A waiting record counts as at least recordBytes bytes. The mailbox records is bounded in bytes,
// so this also bounds the number of records.
const recordBytes = 1 << 10

// receive accepts a record. Any goroutine may call it.
func (f *feed) receive(rec proto.Record) {
	if f.records.Offer(rec, max(recordBytes, len(rec.Payload))) || f.dropped.Swap(true) {
		return
	}
	f.stats.Drops.Add(1)
	f.box.Put(func() {
		f.dropped.Store(false)
		f.checks.scheduleAll(func(*room) bool { return true })
	})
}

// take passes a committed record to the room's sequencer.
func (f *feed) take(r *room, rec proto.Record) {
	switch {
	case !r.live && len(r.waiting) == 0 && !r.reading:
		return
	case !r.live: // keep the record until the room's head has been read
		r.sequencer.hold(rec)
		return
	case rec.Seq <= r.sequencer.head.Seq && rec.State.Epoch == r.sequencer.head.Epoch:
		f.stats.Repeats.Add(1)
	}
	before := r.sequencer.behind()
	r.sequencer.take(rec, r.deliverRecord)
	if r.sequencer.behind() && !before {
		f.stats.Holes.Add(1)
	}
	f.repairs.begin(r)
}

// Inbox returns a prefix for reply subjects. Use it for requests that other gateways receive too.
// They see the reply subject, and must not be able to guess from it where else the connection
// receives answers.
func Inbox(nc *nats.Conn) string {
	own := nc.Opts.InboxPrefix
	return own[:strings.LastIndexByte(own, '.')+1] + rand.Text() + "."
}
