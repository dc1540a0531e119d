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

// catchup is a member that is served from the log.
type catchup struct {
	*replay.Replay
	page    reads.Page // the buffer of the records being replayed
	holds   bool       // it has its connection's only page, or waits for it
	reading bool       // a read of the log is under way or will be retried; or the replay is over
}

// memberKey names a membership.
type memberKey struct {
	id       loop.ID
	audience uint32
}

// catchups serve members from the log. A connection holds at most one page, even if it is in
// several rooms. While it takes no bytes it holds none: the hub keeps only the position in the log,
// and reads the page again later. They are owned by the loop.
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
	// retryRead is the pause before the hub repeats a failed read of the log.
	retryRead = 250 * time.Millisecond
)

// start begins the replay of a member. The client has been told that it has joined, and told is the
// head in that answer. Newer events may have come since.
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

// fallBehind takes a member off the ring. The log serves it from now on, beginning with the record
// numbered next.
func (cs *catchups) fallBehind(a *audience, pos int, next uint64) *conn {
	m := &a.Members()[pos]
	c := cs.conns.at(m.Slot)
	m.Cursor = away
	cs.members[memberKey{c.id(), a.self}] = &catchup{Replay: replay.Behind(next, a.room.Head.Epoch)}
	return c
}

// forget ends the replay of a member that leaves.
func (cs *catchups) forget(c *conn, m membership) {
	k := memberKey{c.id(), m.audience}
	if cu := cs.members[k]; cu != nil {
		cs.release(c, cu)
		delete(cs.members, k)
	}
}

// retract drops the pages that hold records between two seqs of a room. The hub reads these pages
// again.
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

// schedule makes the hub advance the connection's replays.
func (cs *catchups) schedule(c *conn) {
	c.flags |= paging
	cs.out.Schedule(&c.out)
}

// advance gives a member more of its replay.
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
			cu.reading = true // the replay is over
			cs.release(c, cu)
			cs.notices.add(c.id(), Notice{Kind: Closed, Room: a.room.Name, Why: e.Why})
			return
		}
	}
}

// turnPage gives back the page that the member has been sent, and reads the next one. If the
// connection is in several rooms, the others get their turn first.
func (cs *catchups) turnPage(c *conn, m membership, cu *catchup) {
	if cu.holds { // its page has been sent
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

// release gives back the member's page, so that another replay of its connection may hold one.
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

// releasePage gives back the page of a connection that takes no bytes.
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

// goLive makes the ring serve the member, from the offset on.
func (cs *catchups) goLive(c *conn, m membership, at uint64) {
	a := cs.fanout.audiences[m.audience]
	since, asked := cs.members[memberKey{c.id(), m.audience}].Since()
	cs.forget(c, m)
	a.Members()[m.pos].Cursor = at
	if at < a.Head() {
		cs.fanout.markDirty(a)
	}
	switch head := a.room.Head; {
	case !head.Closed:
	case asked && since >= head.Seq:
		// The client saw the closing through another gateway, then joined here before this loop was
		// given it. The replay does not show the closing again, so the client must join again.
		cs.notices.add(c.id(), Notice{Kind: Lost, Room: a.room.Name})
	default: // closed after the client was told that it has joined
		cs.notices.add(c.id(), Notice{Kind: Closed, Room: a.room.Name, Why: head.Why})
	}
}

// read asks the log for the member's next page.
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
		return // the member has left
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

// retry reads the log again later, or sends a Lost notice if the replay has failed for good.
func (cs *catchups) retry(k memberKey, cu *catchup, err error) {
	c, name := cs.conns.at(k.id.Slot()), cs.fanout.audiences[k.audience].room.Name
	cs.release(c, cu)
	if lost, why := cu.Failed(err); lost {
		notice := Notice{Kind: Lost, Room: name}
		if why != nil {
			notice.Err = why
		} else {
			cs.encoder.slog.Warn("room cannot be read", "room", name.String(), "error", err)
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
