package bridge

import (
	"context"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
)

// When the newest record of a room is compared with what has been shown here.
const (
	openedCheck = time.Second            // after the room was opened: the interest may have reached the stream's leader late
	dirtyCheck  = 200 * time.Millisecond // after something that may have cost records
	secondCheck = 2 * time.Second        // and once more, for what was still on its way then
	someRooms   = 16                     // each of someTicks, by turns: for what nothing told us of
	someTicks   = 8
	checkBatch  = 256 // rooms of one request
	maxChecks   = 3   // of one room that are due
)

// check is a room to be compared at some time.
type check struct {
	room *room
	due  time.Time
}

// mend begins to fill the hole before what is known to exist, unless that is under way.
func (f *feed) mend(r *room) {
	if !r.live || r.reading || !r.tail.behind() {
		return
	}
	if len(r.followers) == 0 {
		r.live = false // whoever comes next reads the head anew
		r.tail = tail{}
		return
	}
	r.reading = true
	q := history.Query{
		Room: r.name, Since: r.tail.head.Seq, HasSince: true, Epoch: r.tail.head.Epoch, At: r.tail.head.At,
		Stream: r.tail.head.Stream, Reach: r.tail.reach, Limit: history.MaxLimit,
	}
	f.b.stat.repairs.Add(1)
	f.b.readers.do(func(ctx context.Context) {
		page, err := f.b.readCounted(ctx, q)
		f.do.put(func() { f.mended(r, q, page, err) })
	}, func() {
		f.do.put(func() { f.mended(r, q, history.Page{}, errOverloaded()) })
	})
}

func (f *feed) mended(r *room, q history.Query, page history.Page, err error) {
	r.reading = false
	if !r.live {
		if len(r.waiting) > 0 {
			f.open(r)
		} else {
			r.tail = tail{}
		}
		return
	}
	if err != nil {
		if f.failed(r, q, err) {
			return
		}
		f.b.cfg.Log.Warn("hole of a room cannot be filled yet", "room", r.name.String(), "error", err)
		f.retry = append(f.retry, r)
		return
	}
	r.failures = 0
	show := func(rec proto.Record) { f.show(r, rec) }
	f.testify(r, q, page)
	if gap := page.Gap; gap != nil && (gap.Reason == proto.GapReset || gap.To > r.tail.head.Seq) {
		f.skip(r, *gap, page)
	}
	r.tail.reached(page.Head)
	for _, rec := range page.Records {
		r.tail.take(rec, show)
	}
	r.tail.release(show)
	if r.tail.head.Seq == q.Since && page.Gap == nil && r.tail.reach == q.Reach {
		// The leader itself knows of nothing more: what we had heard of is not in the log.
		r.tail.reach, r.tail.held = r.tail.head.Seq, nil
	}
	f.mend(r)
}

// skip announces what cannot be shown any more and goes on behind it.
func (f *feed) skip(r *room, gap proto.Gap, page history.Page) {
	f.b.stat.gaps.Add(1)
	f.b.cfg.Log.Warn("records are missing", "room", r.name.String(), "from", gap.From, "to", gap.To, "reason", string(gap.Reason))
	if gap.Reason == proto.GapReset {
		r.tail.held = nil // nothing tells which history they are of; the log has them
	} else {
		gap.From = max(gap.From, r.tail.head.Seq+1) // what has arrived since the log was asked has been shown
	}
	f.hand(r, Delivery{Room: r.name, JSON: gap.AppendJSON(nil), Gap: &gap})
	shown := history.Head{Seq: gap.To, Epoch: page.Head.Epoch}
	if len(page.Records) > 0 {
		shown.Seq = page.Records[0].Seq - 1
	}
	if shown.Seq == page.Head.Seq {
		shown = page.Head // nothing follows
	}
	r.tail.begin(shown, func(rec proto.Record) { f.show(r, rec) })
}

// repairAgain tries once more where reading failed. The log itself has waited before it
// gave up.
func (f *feed) repairAgain() {
	rooms := f.retry
	f.retry = nil
	for _, r := range rooms {
		if f.rooms[r.name.Token()] == r {
			f.mend(r)
		}
	}
}

func (f *feed) checkLater(r *room, after time.Duration) {
	if r.checks < maxChecks {
		r.checks++
		f.soon = append(f.soon, check{r, time.Now().Add(after)})
	}
}

// checkAll compares all rooms for which pick returns true, now and a little later.
func (f *feed) checkAll(pick func(*room) bool) {
	for _, after := range []time.Duration{dirtyCheck, secondCheck} {
		for _, r := range f.list {
			if pick(r) {
				f.checkLater(r, after)
			}
		}
	}
}

// checkSoon compares the rooms whose time has come.
func (f *feed) checkSoon(now time.Time) {
	var rooms []*room
	n := 0
	for _, c := range f.soon {
		if c.due.After(now) {
			f.soon[n] = c
			n++
		} else {
			c.room.checks--
			rooms = append(rooms, c.room)
		}
	}
	clear(f.soon[n:])
	f.soon = f.soon[:n]
	f.compare(rooms)
}

// checkSome compares a few rooms by turns.
func (f *feed) checkSome() {
	if f.ticks%someTicks != 0 || len(f.list) == 0 {
		return
	}
	var rooms []*room
	for range min(someRooms, len(f.list)) {
		f.cursor++
		rooms = append(rooms, f.list[f.cursor%len(f.list)])
	}
	f.compare(rooms)
}

// compare reads the heads of rooms and fills the holes that they tell of. While NATS is
// away there is nothing to compare with; when it is back, all rooms are compared.
func (f *feed) compare(rooms []*room) {
	if !f.nc.IsConnected() {
		return
	}
	names := make([]proto.Room, 0, min(len(rooms), checkBatch))
	for i, r := range rooms {
		if r.live && len(r.followers) > 0 && f.rooms[r.name.Token()] == r {
			names = append(names, r.name)
		}
		if len(names) == checkBatch || len(names) > 0 && i == len(rooms)-1 {
			f.readHeads(names)
			names = make([]proto.Room, 0, checkBatch)
		}
	}
}

func (f *feed) readHeads(names []proto.Room) {
	f.b.stat.checks.Add(uint64(len(names)))
	f.b.readers.do(func(ctx context.Context) {
		var heads map[proto.Room]history.Head
		free, err := f.b.roomForHeads(ctx)
		if err == nil {
			heads, err = f.b.log.Heads(ctx, names)
			free()
		}
		f.do.put(func() {
			if err != nil {
				f.b.cfg.Log.Debug("newest records cannot be compared yet", "rooms", len(names), "error", err)
				f.checkNames(names)
				return
			}
			for _, name := range names {
				f.heard(name, heads[name])
			}
		})
	}, func() {
		f.do.put(func() { f.checkNames(names) })
	})
}

func (f *feed) checkNames(names []proto.Room) {
	for _, name := range names {
		if r := f.rooms[name.Token()]; r != nil {
			f.checkLater(r, secondCheck)
		}
	}
}

// heard compares a head, which any replica may have returned, with what has been shown. One
// below that is an old answer or a log that lost its end; reading the log shows which.
func (f *feed) heard(name proto.Room, head history.Head) {
	r := f.rooms[name.Token()]
	if r == nil || !r.live {
		return
	}
	switch shown := r.tail.head; {
	case head.Err != nil:
		r.tail.other = true // reading tells what is wrong
	case head.Epoch != shown.Epoch, head.Seq < shown.Seq, head.Seq == shown.Seq && shown.Differs(head):
		r.tail.other = true
	default:
		r.tail.reach = max(r.tail.reach, head.Seq)
	}
	f.report(r) // the owner may have changed since it answered
	f.mend(r)
}
