package hub

import (
	"errors"
	"fmt"
	"time"

	"roomcast/gateway/loop"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// catchup is a member's way from the log to the ring. Pages are read one at a time and
// given out as the connection takes them, until the event that is needed next is in
// the ring, or is the next to come. The ring waits for nobody, so this takes as many
// pages as the room is faster than the log.
//
// A connection has one page at a time, whatever the number of its rooms, and none while it
// takes no bytes: then only the place in the log is kept, and read again from there. Pages
// grow for a connection that takes them whole, and shrink for one that does not.
type catchup struct {
	from    proto.From // what was asked for; until the first page is there
	told    bool       // the member knows that it has joined, so that events may be sent
	asked   bool       // from has been turned into next
	next    uint64     // the event that is needed next
	epoch   string     // that next is counted in
	known   string     // the epoch that the member has been told
	behind  uint64     // stream sequence of the event before next; 0 = not known
	page    reads.Page // what is left of it
	size    int        // bytes of the next page
	holds   bool       // it is the one of its connection that has a page, or waits for one
	joined  uint64     // up to this seq a closing is of the past: the room's head when it joined, or what a reset says
	been    bool       // it has been served events before
	reading bool
	tries   int // in a row without getting anywhere
}

// seat names a membership.
type seat struct {
	id   loop.ID
	ring uint32
}

const (
	pageRecords = 64
	// Bytes of the smallest, the first and the largest page.
	smallPage = 32 << 10
	firstPage = 64 << 10
	largePage = 256 << 10
	// pageWait is how many bytes may wait for a connection before it is given more of a
	// page.
	pageWait = 32 << 10
	// A log that does not answer is asked again after retryRead, maxTries times.
	retryRead = 250 * time.Millisecond
	maxTries  = 40
)

// from returns the catch-up of a member that needs the event numbered next.
func (rm *room) from(next uint64) *catchup {
	cu := &catchup{size: firstPage, told: true, asked: true, been: true, next: next, epoch: rm.head.Epoch}
	if next > 1 { // otherwise the room may have been empty when it joined
		cu.known = rm.head.Epoch
	}
	return cu
}

func (h *Hub) catchUp(id loop.ID, r *ring, cu catchup) {
	cu.size = firstPage
	h.catching[seat{id, r.self}] = &cu
	if r.room.ready {
		h.tell(id, Notice{Kind: Joined, Room: r.room.name, Head: r.room.head})
	}
}

// begin starts the catch-up of a member that has been told that it has joined, and with
// which head: a newer event may have come since.
func (h *Hub) begin(id loop.ID, name proto.Room, told history.Head) {
	c, rm := h.live(id), h.rooms[name]
	if c == nil || rm == nil {
		return
	}
	i := h.placeOf(c, rm)
	if i < 0 {
		return
	}
	p := h.placesOf(c)[i]
	cu := h.catching[seat{id, p.ring}]
	if cu == nil || cu.told {
		return
	}
	from, head := cu.from, rm.head
	cu.told, cu.epoch, cu.known, cu.joined = true, head.Epoch, told.Epoch, told.Seq
	if cu.known == "" && from.Since > 0 {
		cu.known = from.Epoch
	}
	switch {
	case from.None():
		cu.next, cu.epoch = told.Seq+1, told.Epoch
	case from.HasSince && h.rings[p.ring].continues(from):
		cu.next = from.Since + 1
	case from.Last > 0 && uint64(from.Last) <= head.Seq:
		// Only if the ring has them all: the log may hold fewer than were ever said.
		if at, ok := h.rings[p.ring].find(head.Seq - uint64(from.Last) + 1); ok && !rm.closedSince(cu) {
			h.goLive(c, p, at)
			return
		}
	}
	cu.asked = cu.next != 0
	h.goOn(c)
}

// goOn has pump advance the connection's catch-ups.
func (h *Hub) goOn(c *conn) {
	c.flags |= paging
	if c.flags&listed == 0 {
		c.flags |= listed
		h.talkers.push(c.id.Slot())
	}
}

// advance gives a member more of its catch-up.
func (h *Hub) advance(c *conn, p place) {
	r := h.rings[p.ring]
	cu := h.catching[seat{c.id, p.ring}]
	if cu == nil || !cu.told || cu.reading || !r.room.ready {
		return
	}
	for {
		if h.Due(c.id) > pageWait || c.flags&blocked != 0 {
			c.flags |= paging
			return
		}
		if cu.asked && (cu.epoch == "" || cu.epoch == r.room.head.Epoch) {
			if at, ok := r.find(cu.next); ok && !r.room.closedSince(cu) {
				h.goLive(c, p, at)
				return
			}
		}
		if len(cu.page.Records) == 0 {
			h.turnPage(c, p, cu)
			return
		}
		rec := &cu.page.Records[0]
		cu.page.Records = cu.page.Records[1:]
		cu.next, cu.behind = rec.Seq+1, rec.Stream
		q := h.queueOf(c)
		h.scratch = h.encode(h.scratch[:0], r.enc, rec.Payload, rec.Text, rec.Stamp)
		h.append(q, h.scratch)
		h.stats.Replayed.Add(1)
		if rec.Kind == proto.Closed && rec.Seq > cu.joined {
			// Whoever is told leaves, and is not shown what came after, a reopening neither.
			e, _ := proto.ParseEvent(rec.Payload)
			cu.reading = true
			h.release(c, cu)
			h.tell(c.id, Notice{Kind: Closed, Room: r.room.name, Why: e.Why})
			return
		}
	}
}

// turnPage reads the member's next page when it is its turn.
func (h *Hub) turnPage(c *conn, p place, cu *catchup) {
	if cu.holds { // it has given out a page
		cu.size = min(2*cu.size, largePage)
		h.release(c, cu)
		if len(h.placesOf(c)) > 1 {
			return
		}
	}
	if c.flags&holding == 0 {
		c.flags |= holding
		cu.holds = true
		h.read(c, p, cu)
	}
}

// release gives back the member's page, and lets another catch-up of its connection have one.
func (h *Hub) release(c *conn, cu *catchup) {
	cu.page.Release()
	cu.page = reads.Page{}
	if cu.holds {
		cu.holds = false
		c.flags &^= holding
		h.goOn(c)
	}
}

// letPageGo gives back the page of a connection that takes no bytes.
func (h *Hub) letPageGo(c *conn) {
	for _, p := range h.placesOf(c) {
		if cu := h.catching[seat{c.id, p.ring}]; cu != nil && cu.holds && !cu.reading {
			cu.size = max(cu.size/2, smallPage)
			h.release(c, cu)
		}
	}
}

// closedSince reports whether the room was closed since the member joined and it has not
// been shown that. The ring would show it what came after too; a page of the log ends there.
func (rm *room) closedSince(cu *catchup) bool {
	return rm.closing > cu.joined && rm.closing >= cu.next
}

func (h *Hub) goLive(c *conn, p place, at uint64) {
	r := h.rings[p.ring]
	s := seat{c.id, p.ring}
	cu := h.catching[s]
	from := cu.from
	h.release(c, cu)
	delete(h.catching, s)
	r.members[p.at].cursor = at
	if at < r.head() {
		h.soil(r)
	}
	switch head := r.room.head; {
	case !head.Closed:
	case from.HasSince && from.Since >= head.Seq:
		// It has seen the closing elsewhere, before it was delivered here, and been told that
		// it has joined. It is not shown the closing twice, so it must ask again.
		h.tell(c.id, Notice{Kind: Lost, Room: r.room.name})
	default: // meanwhile
		h.tell(c.id, Notice{Kind: Closed, Room: r.room.name, Why: head.Why})
	}
}

// read asks the log for the member's next page.
func (h *Hub) read(c *conn, p place, cu *catchup) {
	rm := h.rings[p.ring].room
	q := history.Query{Room: rm.name, Limit: pageRecords, Bytes: cu.size, Reach: rm.head.Seq}
	if cu.asked {
		q.Since, q.HasSince, q.Epoch, q.Stream = cu.next-1, true, cu.epoch, cu.behind
	} else {
		q.Since, q.HasSince, q.Epoch, q.At = cu.from.Since, cu.from.HasSince, cu.from.Epoch, cu.from.At
		q.Last, q.After = cu.from.Last, cu.from.After
		if q.Last > 0 {
			q.Limit = 0 // Last bounds it
		}
	}
	cu.reading = true
	s := seat{c.id, p.ring}
	h.stats.Reads.Add(1)
	h.log.Read(q, func(page reads.Page, err error) {
		h.inbox.put(func() { h.readDone(s, cu, page, err) })
	})
}

func (h *Hub) readDone(s seat, cu *catchup, page reads.Page, err error) {
	if h.catching[s] != cu {
		page.Release()
		return // it has left
	}
	cu.reading, cu.page = false, page
	c, rm := h.conn(s.id.Slot()), h.rings[s.ring].room
	if err != nil || page.Head.Epoch != rm.head.Epoch && rm.head.Epoch != "" {
		// The log does not answer, or is ahead of what has been delivered by a whole epoch.
		h.retry(s, cu, err)
		return
	}
	json := h.rings[s.ring].enc.json()
	if json && cu.misnames(&page) {
		page.Gap = history.Reset(rm.name, cu.from.Since, page.Head)
	}
	cu.known = page.Head.Epoch
	if page.Gap != nil {
		h.stats.Gaps.Add(1)
		switch {
		case json:
			h.Text(s.id, page.Gap.AppendJSON(nil))
		case cu.from.HasSince && !cu.been:
			h.Text(s.id, appendNotice(nil, page.Gap))
		default:
			// A text session has no other way to learn that something is left out of what it
			// follows.
			h.tell(s.id, Notice{Kind: Lost, Room: rm.name})
			return
		}
	}
	// The page goes on here, if it has nothing: what has been delivered since it was read,
	// and what another gateway has shown that has not been delivered here yet, come next.
	start := page.Head.Seq + 1
	if len(page.Records) > 0 {
		start = page.Records[0].Seq
	}
	// What is beyond the ring's end will come through the ring.
	records := page.Records
	for n := len(records); n > 0 && records[n-1].Seq > rm.head.Seq; n-- {
		records = records[:n-1]
	}
	was := cu.next
	if start != was {
		cu.behind = 0
	}
	if page.Gap != nil && page.Gap.Reason == proto.GapReset {
		cu.joined, cu.from = page.Gap.Seq, proto.From{HasSince: true}
	}
	cu.page.Records, cu.epoch, cu.asked, cu.been = records, page.Head.Epoch, true, true
	if len(records) > 0 || page.Gap != nil || was == 0 {
		cu.next = start
	}
	if len(records) == 0 && cu.next == was {
		h.retry(s, cu, nil)
		return
	}
	cu.tries = 0
	if c.flags&blocked != 0 {
		h.letPageGo(c)
	}
	h.goOn(c)
}

// misnames reports whether the member would go on with another epoch than the page's. The
// log announces no reset to a member that has been shown nothing of the epoch it knows,
// but its next resume must name the right one.
func (cu *catchup) misnames(page *reads.Page) bool {
	if cu.known == page.Head.Epoch || page.Gap != nil && page.Gap.Reason == proto.GapReset {
		return false
	}
	if cu.known != "" {
		return true
	}
	// The room was empty. The first event of all names the epoch.
	return cu.from.Since == 0 && (len(page.Records) == 0 || page.Records[0].Seq != 1)
}

// appendNotice appends the line by which a text session learns that its since cannot be
// served exactly. Messages begin with the time, so it cannot be taken for one.
func appendNotice(b []byte, g *proto.Gap) []byte {
	switch {
	case g.Reason == proto.GapReset:
		return append(b, "[this room has a new numbering; its oldest messages follow]"...)
	case g.From == g.To:
		return fmt.Appendf(b, "[message %d cannot be shown any more]", g.From)
	}
	return fmt.Appendf(b, "[messages %d to %d cannot be shown any more]", g.From, g.To)
}

// retry asks again later, unless that has been tried too often or is of no use. While
// there is no memory for a page, the member waits.
func (h *Hub) retry(s seat, cu *catchup, err error) {
	h.release(h.conn(s.id.Slot()), cu)
	switch r, refused := errors.AsType[*proto.Refusal](err); {
	case refused && r.Code == proto.Overloaded:
	case refused && !r.Temporary() && r.Code != proto.Internal:
		h.tell(s.id, Notice{Kind: Lost, Room: h.rings[s.ring].room.name, Err: r})
		return
	default:
		cu.tries++
	}
	if cu.tries > maxTries {
		h.cfg.Log.Warn("room cannot be read", "room", h.rings[s.ring].room.name.String(), "error", err)
		h.tell(s.id, Notice{Kind: Lost, Room: h.rings[s.ring].room.name})
		return
	}
	cu.reading = true
	h.after(retryRead, func() {
		h.inbox.put(func() {
			if h.catching[s] == cu {
				cu.reading = false
				h.goOn(h.conn(s.id.Slot()))
			}
		})
	})
}
