// Package replay decides which records of the log a member receives before the ring serves it. The
// hub passes pages of the log to a [Replay], which returns the records for the member. The replay
// ends when the ring contains the member's next record, or when the room has no next record yet.
// During the replay, events arrive and the ring drops old ones, so a replay in a busy room may need
// several pages. This package does no I/O: the hub reads the pages and sends the frames.
package replay

import (
	"errors"

	"roomcast/gateway/hub/ring"
	"roomcast/proto"
	"roomcast/proto/history"
)

// Room is the state of a room that a loop knows from its deliveries.
type Room struct {
	Name proto.Room
	Head history.Head // Seq is the seq of the newest event delivered to this loop
	// Closing is the seq of the newest close that was delivered to this loop, in the head's
	// epoch. 0 means that there was none.
	Closing uint64
}

// Replay is the progress of one member's replay. The loop's goroutine owns it.
type Replay struct {
	from       proto.From     // the position that the client requested
	started    bool           // the client has received the answer to its join, so events may follow
	asked      bool           // next is known
	next       uint64         // seq of the next record for the member
	epoch      string         // epoch of next
	known      string         // the epoch that the client knows from the gateway's last answer or reset
	lastStream uint64         // stream sequence of the record before next; 0 = unknown
	records    []proto.Record // records of the page that were not returned yet
	size       int            // size of the next page in bytes
	joined     uint64         // only a later close ends the membership; this is the seq of the head at the join, or the seq of a reset
	served     bool           // the client has received events of the room before
	tries      int            // how many reads since the last success have returned nothing new
}

const (
	pageRecords = 64
	// Sizes of a page in bytes: the smallest, the first and the largest. The size grows if the
	// connection accepts whole pages, and shrinks if it does not.
	smallPage = 32 << 10
	firstPage = 64 << 10
	largePage = 256 << 10
	// maxTries is how many reads in a row may fail before the member's session must end.
	maxTries = 40
)

// New returns the replay of a new member. Next must not be called before Start.
func New(from proto.From) *Replay { return &Replay{from: from, size: firstPage} }

// Behind returns the replay of a member that has fallen behind the ring. The parameter next is
// the seq of its next record.
func Behind(next uint64, epoch string) *Replay {
	r := &Replay{size: firstPage, started: true, asked: true, served: true, next: next, epoch: epoch}
	if next > 1 { // if next is 1, the room may have been empty and without an epoch when the member joined
		r.known = epoch
	}
	return r
}

// Started reports whether the client has received the answer to its join.
func (r *Replay) Started() bool { return r.started }

// Since returns the seq after which the client wants to continue. The result asked reports whether
// the client has given such a seq.
func (r *Replay) Since() (seq uint64, asked bool) { return r.from.Since, r.from.HasSince }

// Start begins the replay after the client has received the answer to its join. The parameter told
// is the room's head in this answer. Since then, newer events may have been delivered. If live is
// true, there is nothing to replay: the ring contains all events that the client requested, and at
// is the offset of the first.
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
		// The client wants the newest events that still exist. If the log lacks some seqs, counting back
		// from the head would give too few. So use the ring only if it contains all of them. Otherwise
		// the log counts the records.
		if at, ok := events.Find(head.Seq-uint64(r.from.Last)+1, head.Seq); ok && !r.closedSince(room) {
			return at, true
		}
	}
	r.asked = r.next != 0
	return 0, false
}

// Next returns the next record for the member. If live is true, the replay is over. The ring
// then serves the member, beginning at the returned offset. If rec is nil and live is false, the
// replay needs a page.
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
	r.next, r.lastStream = rec.Seq+1, rec.Stream
	return 0, false, rec
}

// closedSince reports whether the room was closed after the member's join, and the member has
// not received the close yet. The replay must end at the close. So the member must not continue
// in the ring, which contains later events.
func (r *Replay) closedSince(room *Room) bool {
	return room.Closing > r.joined && room.Closing >= r.next
}

// Ends reports whether rec is a close that ends the membership. The member receives nothing
// after it, not even the event that reopens the room.
func (r *Replay) Ends(rec *proto.Record) bool {
	return rec.Kind == proto.Closed && rec.Seq > r.joined
}

// Query returns the query for the next page of the log.
func (r *Replay) Query(room *Room) history.Query {
	q := history.Query{Room: room.Name, Limit: pageRecords, Bytes: r.size, Reach: room.Head.Seq}
	if r.asked {
		q.Since, q.HasSince, q.Epoch, q.Stream = r.next-1, true, r.epoch, r.lastStream
		return q
	}
	q.Since, q.HasSince, q.Epoch, q.At = r.from.Since, r.from.HasSince, r.from.Epoch, r.from.At
	q.Last, q.After = r.from.Last, r.from.After
	if q.Last > 0 {
		q.Limit = 0 // Last already bounds the number of records
	}
	return q
}

// Outcome says what the hub must do after Take.
type Outcome struct {
	Gap   *proto.Gap // if not nil, announce this gap to the client
	Lost  bool       // the client cannot be told of the gap, so its session must end
	Retry bool       // the page contained nothing new, so read it again later
}

// Take accepts a page. The parameter full says whether the client's format includes gaps. A client
// with another format can be told of a gap only at the beginning of its session.
func (r *Replay) Take(p *history.Page, room *Room, full bool) (o Outcome) {
	head := room.Head
	if p.Head.Epoch != head.Epoch && head.Epoch != "" {
		return Outcome{Retry: true} // the log has a new epoch, but its first event has not been delivered to this loop yet
	}
	o.Gap = p.Gap
	records := p.Records
	// If the page has no records, the replay continues after the page's head. The following
	// events were delivered to this loop after the page was read, or will be delivered soon.
	start := p.Head.Seq + 1
	if len(records) > 0 {
		start = records[0].Seq
	}
	if full && r.knowsOtherEpoch(p) {
		o.Gap = history.Reset(room.Name, r.from.Since, p.Head)
		if start > 1 && !(r.from.HasSince && r.from.Since == 0) {
			records, start = nil, 1 // after a reset, the client expects the events from the oldest one on
		}
	}
	r.known = p.Head.Epoch
	if o.Gap != nil && !full && (!r.from.HasSince || r.served) {
		return Outcome{Gap: o.Gap, Lost: true}
	}
	// Drop records that are newer than the ring. The ring will contain them later.
	for n := len(records); n > 0 && records[n-1].Seq > head.Seq; n-- {
		records = records[:n-1]
	}
	was := r.next
	if start != was {
		r.lastStream = 0
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

// knowsOtherEpoch reports whether the client needs a reset that the page does not contain, because
// the client knows another epoch. The log adds a reset only if the client has received an event of
// the other epoch. But a client without events needs one too. Otherwise this client would name the
// wrong epoch when it resumes.
func (r *Replay) knowsOtherEpoch(p *history.Page) bool {
	if r.known == p.Head.Epoch || p.Gap != nil && p.Gap.Reason == proto.GapReset {
		return false
	}
	if r.known != "" {
		return true
	}
	// The client joined an empty room without an epoch. The event with seq 1 will tell it the
	// epoch.
	return r.from.Since == 0 && (len(p.Records) == 0 || p.Records[0].Seq != 1)
}

// Failed counts a failed read. If err is nil, the read returned nothing new. The result lost
// reports whether to end the member's session. The result why is the refusal for the client, or
// nil.
func (r *Replay) Failed(err error) (lost bool, why *proto.Refusal) {
	refusal, refused := errors.AsType[*proto.Refusal](err)
	switch {
	case refused && refusal.Code == proto.Overloaded:
		return false, nil // there is no memory for a page now, so the member waits
	case refused && !refusal.Temporary() && refusal.Code != proto.Internal:
		return true, refusal
	}
	r.tries++
	return r.tries > maxTries, nil
}

// Grow enlarges the next page. Call it when the connection has accepted a whole page. Shrink
// makes the next page smaller. Call it when the page was released because the connection
// accepted no bytes.
func (r *Replay) Grow()   { r.size = min(2*r.size, largePage) }
func (r *Replay) Shrink() { r.size = max(r.size/2, smallPage) }

// Forget discards the records that were not returned yet.
func (r *Replay) Forget() { r.records = nil }

// Retract is called when an act has changed the records in the given range of seqs. If some of the
// records that were not returned yet may be in this range, Retract discards them all and returns
// true. The hub then reads them again.
func (r *Replay) Retract(from, to uint64) bool {
	if n := len(r.records); n == 0 || r.records[0].Seq > to || r.records[n-1].Seq < from {
		return false
	}
	r.records = nil
	return true
}

// Holds returns the number of records that Next can return without another page.
func (r *Replay) Holds() int { return len(r.records) }

// Restarts reports whether a reset to the given epoch leaves the member without a position to
// continue from. If the member's position is in another epoch, the next page contains the reset,
// and the member can continue.
func (r *Replay) Restarts(epoch string) bool {
	return r.started && (r.epoch == "" || r.epoch == epoch)
}
