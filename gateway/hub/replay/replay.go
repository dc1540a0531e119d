// Package replay takes one member from the log to the ring. Pages of the log go in, and records for
// the member come out. The replay ends when the next record is in the ring or is still to come. The
// ring moves on meanwhile, so a busy room may take several pages. The package is pure: the hub
// reads the pages and sends the frames.
package replay

import (
	"errors"

	"roomcast/gateway/hub/ring"
	"roomcast/proto"
	"roomcast/proto/history"
)

// Room is the state of a room as one loop knows it.
type Room struct {
	Name proto.Room
	Head history.Head // Seq is that of the newest event delivered to this loop
	// Closing is the seq of the newest closing delivered to this loop, in the head's epoch;
	// 0 = none.
	Closing uint64
}

// Replay is the progress of one member. It is owned by the loop's goroutine.
type Replay struct {
	from    proto.From     // what the client requested
	started bool           // the client knows that it has joined, so events may be sent
	asked   bool           // next is known
	next    uint64         // seq of the record that is needed next
	epoch   string         // the epoch of next
	known   string         // the last epoch that the client has been told
	behind  uint64         // stream sequence of the record before next; 0 = not known
	records []proto.Record // the rest of the page
	size    int            // bytes of the next page
	joined  uint64         // closings up to this seq do not concern the member: the head at the join, or the seq of a reset
	served  bool           // the client has been shown events of the room before
	tries   int            // how many reads in a row brought nothing
}

const (
	pageRecords = 64
	// Bytes of the smallest, the first and the largest page. Pages grow for a connection
	// that takes them whole and shrink for one that does not.
	smallPage = 32 << 10
	firstPage = 64 << 10
	largePage = 256 << 10
	// maxTries bounds how often in a row the log may fail.
	maxTries = 40
)

// New returns the replay of a new member. It shows nothing before Start.
func New(from proto.From) *Replay { return &Replay{from: from, size: firstPage} }

// Behind returns the replay of a member that has been served from the ring and needs the
// record numbered next.
func Behind(next uint64, epoch string) *Replay {
	r := &Replay{size: firstPage, started: true, asked: true, served: true, next: next, epoch: epoch}
	if next > 1 { // otherwise the room may have been empty when the member joined
		r.known = epoch
	}
	return r
}

// Started reports whether the client knows that it has joined.
func (r *Replay) Started() bool { return r.started }

// Since returns the seq after which the client asked to continue. Asked reports whether it did.
func (r *Replay) Since() (seq uint64, asked bool) { return r.from.Since, r.from.HasSince }

// Start begins to serve a client that has been told that it has joined. Told is the head in that
// answer; newer events may have come since. If live, the ring has all that the client requested,
// from offset at on.
func (r *Replay) Start(told history.Head, room *Room, events *ring.Log) (at uint64, live bool) {
	head := room.Head
	r.started, r.epoch, r.known, r.joined = true, head.Epoch, told.Epoch, told.Seq
	if r.known == "" && r.from.Since > 0 {
		r.known = r.from.Epoch
	}
	switch {
	case r.from.None():
		r.next, r.epoch = told.Seq+1, told.Epoch
	case r.from.HasSince && events.Continues(r.from, head):
		r.next = r.from.Since + 1
	case r.from.Last > 0 && uint64(r.from.Last) <= head.Seq:
		// Only if the ring has all of them. Otherwise a read must count them, because the log may
		// lack some seqs.
		if at, ok := events.Find(head.Seq-uint64(r.from.Last)+1, head.Seq); ok && !r.closedSince(room) {
			return at, true
		}
	}
	r.asked = r.next != 0
	return 0, false
}

// Next returns the record to show next, or the offset from which the ring serves the member from
// now on. If it returns neither, the replay needs a page.
func (r *Replay) Next(room *Room, events *ring.Log) (at uint64, live bool, rec *proto.Record) {
	if r.asked && (r.epoch == "" || r.epoch == room.Head.Epoch) {
		if at, ok := events.Find(r.next, room.Head.Seq); ok && !r.closedSince(room) {
			return at, true, nil
		}
	}
	if len(r.records) == 0 {
		return 0, false, nil
	}
	rec, r.records = &r.records[0], r.records[1:]
	r.next, r.behind = rec.Seq+1, rec.Stream
	return 0, false, rec
}

// closedSince reports whether the member has yet to be shown a closing that came after its join.
// The ring would go on with later events; the replay ends at the closing.
func (r *Replay) closedSince(room *Room) bool {
	return room.Closing > r.joined && room.Closing >= r.next
}

// Ends reports whether the record closes the room for the member. The member is shown
// nothing after it, not even that the room is open again.
func (r *Replay) Ends(rec *proto.Record) bool {
	return rec.Kind == proto.Closed && rec.Seq > r.joined
}

// Query returns the query for the next page.
func (r *Replay) Query(room *Room) history.Query {
	q := history.Query{Room: room.Name, Limit: pageRecords, Bytes: r.size, Reach: room.Head.Seq}
	if r.asked {
		q.Since, q.HasSince, q.Epoch, q.Stream = r.next-1, true, r.epoch, r.behind
		return q
	}
	q.Since, q.HasSince, q.Epoch, q.At = r.from.Since, r.from.HasSince, r.from.Epoch, r.from.At
	q.Last, q.After = r.from.Last, r.from.After
	if q.Last > 0 {
		q.Limit = 0 // Last bounds it
	}
	return q
}

// Outcome is the result of a page.
type Outcome struct {
	Gap   *proto.Gap // announce this to the client
	Lost  bool       // the client cannot be told of the gap: end its session
	Retry bool       // the page brought nothing: read again
}

// Take accepts a page. Full says that the client's format shows gaps. A client of another format
// can be told of a gap only at the beginning of its session.
func (r *Replay) Take(p *history.Page, room *Room, full bool) (o Outcome) {
	head := room.Head
	if p.Head.Epoch != head.Epoch && head.Epoch != "" {
		return Outcome{Retry: true} // the log is a whole epoch ahead of the deliveries
	}
	o.Gap = p.Gap
	records := p.Records
	// Without records the replay continues behind the page's head. The next events were delivered
	// here after the page was read, or another gateway has already shown them.
	start := p.Head.Seq + 1
	if len(records) > 0 {
		start = records[0].Seq
	}
	if full && r.misnames(p) {
		o.Gap = history.Reset(room.Name, r.from.Since, p.Head)
		if start > 1 && !(r.from.HasSince && r.from.Since == 0) {
			records, start = nil, 1 // behind a reset the client expects the oldest records
		}
	}
	r.known = p.Head.Epoch
	if o.Gap != nil && !full && (!r.from.HasSince || r.served) {
		return Outcome{Gap: o.Gap, Lost: true}
	}
	// Records beyond the ring's end will come through the ring.
	for n := len(records); n > 0 && records[n-1].Seq > head.Seq; n-- {
		records = records[:n-1]
	}
	was := r.next
	if start != was {
		r.behind = 0
	}
	if o.Gap != nil && o.Gap.Reason == proto.GapReset {
		r.joined, r.from = o.Gap.Seq, proto.From{HasSince: true}
	}
	r.records, r.epoch, r.asked, r.served = records, p.Head.Epoch, true, true
	if len(records) > 0 || o.Gap != nil || was == 0 {
		r.next = start
	}
	if o.Retry = len(records) == 0 && r.next == was; !o.Retry {
		r.tries = 0
	}
	return o
}

// misnames reports whether the client's next resume would name another epoch than the page's. The
// log announces no reset to a client that has seen no event of the epoch that it knows. The client
// must learn the right epoch all the same.
func (r *Replay) misnames(p *history.Page) bool {
	if r.known == p.Head.Epoch || p.Gap != nil && p.Gap.Reason == proto.GapReset {
		return false
	}
	if r.known != "" {
		return true
	}
	// The room was empty. The event with seq 1 names the epoch.
	return r.from.Since == 0 && (len(p.Records) == 0 || p.Records[0].Seq != 1)
}

// Failed counts a failed read, or a page that brought nothing (err is nil). Lost reports whether
// the member cannot be served at all; why is the refusal, if there is one.
func (r *Replay) Failed(err error) (lost bool, why *proto.Refusal) {
	refusal, refused := errors.AsType[*proto.Refusal](err)
	switch {
	case refused && refusal.Code == proto.Overloaded:
		return false, nil // there is no memory for a page: the member waits
	case refused && !refusal.Temporary() && refusal.Code != proto.Internal:
		return true, refusal
	}
	r.tries++
	return r.tries > maxTries, nil
}

// Grow enlarges the next page, after the connection took a whole one. Shrink makes it smaller,
// after the hub gave back a page because the connection took no bytes.
func (r *Replay) Grow()   { r.size = min(2*r.size, largePage) }
func (r *Replay) Shrink() { r.size = max(r.size/2, smallPage) }

// Forget drops the rest of the page.
func (r *Replay) Forget() { r.records = nil }

// Retract drops the rest of the page if it may hold records between two seqs, which the log has
// changed. It reports whether it did.
func (r *Replay) Retract(from, to uint64) bool {
	if n := len(r.records); n == 0 || r.records[0].Seq > to || r.records[n-1].Seq < from {
		return false
	}
	r.records = nil
	return true
}

// Holds returns how many records of the page are left.
func (r *Replay) Holds() int { return len(r.records) }

// Restarts reports whether a reset to the epoch leaves the member without a position to continue
// from. A member in another epoch learns of the reset from the log.
func (r *Replay) Restarts(epoch string) bool {
	return r.started && (r.epoch == "" || r.epoch == epoch)
}
