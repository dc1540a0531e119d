package hub

import (
	"time"

	"roomcast/gateway/hub/outbox"
	"roomcast/gateway/hub/replay"
	"roomcast/gateway/loop"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// catchup is a member to which the hub sends records from the log.
type catchup struct {
	*replay.Replay
	page    reads.Page // the page whose records are being sent
	holds   bool       // this replay has the connection's only page, or is reading it
	reading bool       // do not start a read: one is in progress or will be repeated, or the replay is over
	noticed uint64     // the member has received the ephemerals in the ring before this offset, except gaps
}

// memberKey identifies a membership.
type memberKey struct {
	id       loop.ID
	audience uint32
}

// catchups sends records from the log to members whose next event is not in the ring. Each
// connection has at most one page, even if it is in several rooms. A connection whose client
// does not read has no page: the hub keeps only its position in the log, and reads the page
// again later. The loop owns catchups.
type catchups struct {
	// static
	conns   *conns
	out     *outbox.Outbox
	fanout  *fanout
	encoder *encoder
	notices *notices
	clock   *clock
	log     Log
	stats   *Stats

	// owned by the loop
	members map[memberKey]*catchup
}

const (
	// pageWait is how many bytes may wait for a connection before the hub pauses its replays.
	pageWait = 32 << 10
	// retryRead is how long the hub waits before it repeats a failed read of the log.
	retryRead = 250 * time.Millisecond
)

// start begins the replay of a member, after the client has received the answer to its join. The
// parameter told is the room's head in that answer. Since then, newer events may have been
// delivered.
func (cs *catchups) start(c *conn, m membership, told history.Head) {
	a := cs.fanout.audiences[m.audience]
	cu := cs.members[memberKey{c.id(), m.audience}]
	if cu == nil || cu.Started() {
		return
	}
	if at, live := cu.Start(told, &a.room.Room, &a.Log); live {
		cs.goLive(c, m, at)
		return
	}
	cs.schedule(c)
}

// fallBehind makes the hub serve a member from the log instead of the ring. The parameter next
// is the seq of the member's next record.
func (cs *catchups) fallBehind(a *audience, pos int, next uint64) *conn {
	m := &a.Members()[pos]
	c := cs.conns.at(m.Slot)
	for from, to := range a.Notices(m.Cursor, a.Head(), m.Slot) {
		cs.offer(c, a.Bytes(from, to))
	}
	m.Cursor = away
	cs.members[memberKey{c.id(), a.self}] = &catchup{Replay: replay.Behind(next, a.room.Head.Epoch), noticed: a.Head()}
	return c
}

// interject sends an ephemeral to the members that are served from the log. The log contains no
// ephemerals. So these members receive it at once, before the rest of their replay.
func (cs *catchups) interject(rm *room, rec *proto.Record, skip uint32) {
	if len(cs.members) == 0 {
		return
	}
	for _, a := range rm.audiences {
		if !cs.encoder.formats[a.format].Full {
			continue
		}
		frame := cs.encoder.event(a.format, rec)
		for _, m := range a.Members() {
			if m.Cursor != away || m.Slot+1 == skip {
				continue
			}
			c := cs.conns.at(m.Slot)
			if cu := cs.members[memberKey{c.id(), a.self}]; cu != nil && cu.Started() {
				cs.offer(c, frame)
				cu.noticed = a.Head()
			}
		}
	}
}

// offer queues frames for a connection. If too many bytes wait for the connection, its session gets
// a Slow notice instead.
func (cs *catchups) offer(c *conn, frames []byte) {
	if !cs.out.Offer(&c.out, frames) {
		cs.notices.add(c.id(), Notice{Kind: Slow})
	}
}

// forget ends the replay of a member that leaves the room.
func (cs *catchups) forget(c *conn, m membership) {
	k := memberKey{c.id(), m.audience}
	if cu := cs.members[k]; cu != nil {
		cs.release(c, cu)
		delete(cs.members, k)
	}
}

// retract is called when an edit or a deletion has changed records with a seq between from and to.
// It discards the pages that may contain such records. The hub reads them again.
func (cs *catchups) retract(rm *room, from, to uint64) {
	rm.members(func(a *audience, pos int) {
		m := a.Members()[pos]
		if m.Cursor != away {
			return
		}
		c := cs.conns.at(m.Slot)
		if cu := cs.members[memberKey{c.id(), a.self}]; cu != nil && cu.Retract(from, to) {
			cs.schedule(c)
		}
	})
}

// schedule makes the hub continue the connection's replays soon.
func (cs *catchups) schedule(c *conn) {
	c.flags |= paging
	cs.out.Schedule(&c.out)
}

// advance sends the next records of a member's replay, until the replay ends or too many bytes
// wait for the connection.
func (cs *catchups) advance(c *conn, m membership) {
	a := cs.fanout.audiences[m.audience]
	cu := cs.members[memberKey{c.id(), m.audience}]
	if cu == nil || !cu.Started() || cu.reading || !a.room.ready {
		return
	}
	for {
		if cs.out.Due(&c.out) > pageWait || c.out.Blocked() {
			c.flags |= paging
			return
		}
		at, live, rec := cu.Next(&a.room.Room, &a.Log)
		switch {
		case live:
			cs.goLive(c, m, at)
			return
		case rec == nil:
			cs.turnPage(c, m, cu)
			return
		}
		cs.out.Append(&c.out, cs.encoder.event(a.format, rec))
		cs.stats.Replayed.Add(1)
		if cu.Ends(rec) {
			e, _ := proto.ParseEvent(rec.Payload)
			cu.reading = true // the close ends the replay
			cs.release(c, cu)
			cs.notices.add(c.id(), Notice{Kind: Closed, Room: a.room.Name, Why: e.Why})
			return
		}
	}
}

// turnPage releases the page whose records have been sent, and reads the next page. If the
// connection is in several rooms, its other replays may read a page first.
func (cs *catchups) turnPage(c *conn, m membership, cu *catchup) {
	if cu.holds { // all records of the page have been sent
		cu.Grow()
		cs.release(c, cu)
		if len(cs.conns.memberships(c)) > 1 {
			return
		}
	}
	if c.flags&holding == 0 {
		c.flags |= holding
		cu.holds = true
		cs.read(m, memberKey{c.id(), m.audience}, cu)
	}
}

// release frees the member's page. Then another replay of the connection may have a page.
func (cs *catchups) release(c *conn, cu *catchup) {
	cu.Forget()
	cu.page.Release()
	cu.page = reads.Page{}
	if cu.holds {
		cu.holds = false
		c.flags &^= holding
		cs.schedule(c)
	}
}

// releasePage frees the page of a connection whose client does not read.
func (cs *catchups) releasePage(c *conn) {
	if c.flags&holding == 0 {
		return
	}
	for _, m := range cs.conns.memberships(c) {
		if cu := cs.members[memberKey{c.id(), m.audience}]; cu != nil && cu.holds && !cu.reading {
			cu.Shrink()
			cs.release(c, cu)
		}
	}
}

// goLive makes the hub serve the member from the ring, beginning at the given offset.
func (cs *catchups) goLive(c *conn, m membership, at uint64) {
	a := cs.fanout.audiences[m.audience]
	cu := cs.members[memberKey{c.id(), m.audience}]
	since, asked := cu.Since()
	if at < cu.noticed { // do not send the ephemerals again
		for from, to := range a.Events(at, cu.noticed) {
			cs.out.Append(&c.out, a.Bytes(from, to))
			cs.fanout.deliveries++
		}
		at = cu.noticed
	}
	cs.forget(c, m)
	a.Members()[m.pos].Cursor = at
	if at < a.Head() {
		cs.fanout.markDirty(a)
	}
	switch head := a.room.Head; {
	case !head.Closed:
	case asked && since >= head.Seq:
		// The client has received the close of the room from another gateway. Then it joined the
		// room here, before the close was delivered to this loop. The replay does not contain
		// the close. So the client must join again, and is then refused.
		cs.notices.add(c.id(), Notice{Kind: Lost, Room: a.room.Name})
	default: // the room was closed after the answer to the join
		cs.notices.add(c.id(), Notice{Kind: Closed, Room: a.room.Name, Why: head.Why})
	}
}

// read requests the member's next page from the log.
func (cs *catchups) read(m membership, k memberKey, cu *catchup) {
	cu.reading = true
	cs.stats.Reads.Add(1)
	cs.log.Read(cu.Query(&cs.fanout.audiences[m.audience].room.Room), func(page reads.Page, err error) {
		cs.clock.post(func() { cs.readDone(k, cu, page, err) })
	})
}

func (cs *catchups) readDone(k memberKey, cu *catchup, page reads.Page, err error) {
	if cs.members[k] != cu {
		page.Release()
		return // the member has left the room
	}
	cu.reading, cu.page = false, page
	c, a := cs.conns.at(k.id.Slot()), cs.fanout.audiences[k.audience]
	if err != nil {
		cs.retry(k, cu, err)
		return
	}
	full := cs.encoder.formats[a.format].Full
	outcome := cu.Take(&page.Page, &a.room.Room, full)
	if outcome.Gap != nil {
		cs.stats.Gaps.Add(1)
	}
	switch gap := outcome.Gap; {
	case outcome.Lost:
		cs.notices.add(k.id, Notice{Kind: Lost, Room: a.room.Name})
		return
	case gap == nil:
	case full:
		cs.out.Append(&c.out, cs.encoder.gap(a.format, gap, page.Head.Epoch))
	default:
		cs.out.Append(&c.out, cs.encoder.text(a.format, appendNotice(nil, gap)))
	}
	if outcome.Retry {
		cs.retry(k, cu, nil)
		return
	}
	if c.out.Blocked() {
		cs.releasePage(c)
	}
	cs.schedule(c)
}

// retry repeats the read after a while. If the replay cannot continue, retry sends the session a
// Lost notice instead.
func (cs *catchups) retry(k memberKey, cu *catchup, err error) {
	c, name := cs.conns.at(k.id.Slot()), cs.fanout.audiences[k.audience].room.Name
	cs.release(c, cu)
	if lost, why := cu.Failed(err); lost {
		notice := Notice{Kind: Lost, Room: name}
		if why != nil {
			notice.Err = why
		} else {
			cs.encoder.slog.Warn("read room for a member", "room", name.String(), "error", err)
		}
		cs.notices.add(k.id, notice)
		return
	}
	cu.reading = true
	cs.clock.later(retryRead, func() {
		if cs.members[k] == cu {
			cu.reading = false
			cs.schedule(cs.conns.at(k.id.Slot()))
		}
	})
}
