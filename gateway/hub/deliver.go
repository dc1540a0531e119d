package hub

import (
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/hub/ring"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/history"
)

// deliver handles one delivery of the feeds. Skip is slot+1 of the connection that
// is not shown it; 0 = every member is.
func (rs *rooms) deliver(d *follow.Delivery, skip uint32) {
	rm := rs.byName[d.Room]
	if rm == nil || !rm.ready {
		return // all members have left; or the head that follows will include it
	}
	switch {
	case d.Lost != nil:
		rs.lose(rm, d.Lost)
	case d.Gap != nil:
		rs.deliverGap(rm, d)
	case d.Seq == 0:
		rs.record = proto.Record{Room: d.Room, Payload: d.JSON}
		rs.pushEphemeral(rm, skip)
	default:
		rs.deliverEvent(rm, d)
	}
}

// deliverGap announces events that this loop will never be given. It ends the sessions that
// cannot be told.
func (rs *rooms) deliverGap(rm *room, d *follow.Delivery) {
	g := d.Gap
	rs.dispatch.run() // members that have just joined begin in the history that they were told of
	rs.stats.Gaps.Add(1)
	epoch := rm.Head.Epoch
	if g.Reason == proto.GapReset {
		epoch = g.Epoch
	}
	rs.record = proto.Record{Room: rm.Name, Seq: g.To, Kind: wire.KindGap, State: proto.State{Epoch: epoch}, Payload: g.AppendJSON(nil)}
	rs.pushEphemeral(rm, 0)
	for _, a := range rm.audiences {
		if !rs.encoder.formats[a.format].Full {
			rs.tellServed(a, Notice{Kind: Lost, Room: rm.Name}) // the others find the gap in the log
		}
	}
	if g.Reason == proto.GapReset {
		rs.reset(rm, g)
	} else if g.To > rm.Head.Seq {
		rm.Head.Seq, rm.Head.At = g.To, time.Time{}
	}
	if rm.Head.Limits = d.Limits; d.Limits != nil { // a ban may be in the gap
		rs.tellAll(rm, Notice{Kind: Barred, Room: rm.Name, Head: rm.Head})
	}
	rs.dispatch.run() // now: members that leave are not shown what comes after
}

// reset has the room begin with the next event. The log may be empty, so nothing else may
// ever say so to the members that come next.
func (rs *rooms) reset(rm *room, g *proto.Gap) {
	rm.members(func(a *audience, pos int) {
		id := rs.idOf(a, pos)
		if cu := rs.catchups.members[memberKey{id, a.self}]; cu != nil && cu.Restarts(g.Epoch) {
			rs.dispatch.add(id, Notice{Kind: Lost, Room: rm.Name})
		}
	})
	rs.restart(rm)
	rm.Head, rm.began, rm.undone = history.Head{Epoch: g.Epoch}, true, g.Seq
}

func (rs *rooms) deliverEvent(rm *room, d *follow.Delivery) {
	switch next := rm.Head.Seq + 1; {
	case rm.began || d.Epoch != "" && d.Epoch != rm.Head.Epoch:
		rs.restart(rm)
		rm.began = false
	case d.Seq < next:
		return // a repeat
	case d.Seq > next:
		rs.skipTo(rm, d.Seq-1)
	}
	before := rm.Head.Limits
	rm.Head.Seq, rm.Head.At, rm.Head.Limits = d.Seq, d.At, d.Limits
	if d.Epoch != "" {
		rm.Head.Epoch = d.Epoch
	}
	rs.record = proto.Record{
		Room: d.Room, Seq: d.Seq, Kind: d.Kind, Stamp: d.Stamp, Text: d.Text, Payload: d.JSON,
		State: proto.State{Epoch: rm.Head.Epoch, At: d.At},
	}
	f := ring.Frame{Seq: d.Seq, Time: d.At.UnixMilli()}
	for _, a := range rm.audiences {
		rs.push(a, f)
	}
	if d.Kind == proto.Message {
		return
	}
	rs.change(rm, d, before)
	rs.expel(rm, d)
	if rm.acted(d); d.Kind == proto.Closed && d.Seq > rm.undone {
		for _, a := range rm.audiences {
			// Members that are served from the log are told when they have been shown what came before.
			rs.tellServed(a, Notice{Kind: Closed, Room: rm.Name, Why: rm.Head.Why})
		}
		rs.dispatch.run() // now: members that leave are not shown what comes after
	}
}

// change drops a message that was deleted or edited from the rings, and its edits. Members
// that still need them read them from the log, like later members.
func (rs *rooms) change(rm *room, d *follow.Delivery, before *proto.Restrictions) {
	if d.Kind != proto.Deleted && d.Kind != proto.Edited {
		return
	}
	e, err := proto.ParseEvent(d.JSON)
	if err != nil {
		return
	}
	last := e.Of
	if d.Kind == proto.Deleted {
		last = max(last, before.Edit(e.Of))
	}
	rs.catchups.retract(rm, e.Of, last)
	for _, a := range rm.audiences {
		to, found := a.Behind(last)
		if !found {
			continue
		}
		rs.fanout.finish(a)
		for i, m := range a.Members() {
			if m.Cursor < to {
				rs.catchups.schedule(rs.catchups.fallBehind(a, i, a.NextSeq(m.Cursor, rm.Head.Seq)))
			}
		}
		a.Drop(to)
	}
}

// expel ends the memberships of those whom a kick or a ban names, and which all began before.
func (rs *rooms) expel(rm *room, d *follow.Delivery) {
	n := Notice{Kind: Barred, Room: rm.Name, Head: rm.Head}
	switch d.Kind {
	case proto.Kicked:
		n.Kind = Kicked
	case proto.Banned:
	default:
		return
	}
	e, err := proto.ParseEvent(d.JSON)
	if err != nil {
		return
	}
	n.Member, n.Why = e.Member, e.Why
	rs.tellAll(rm, n)
	rs.dispatch.run() // now: members that leave are not shown what comes after
}

// acted remembers whether a closing or reopening leaves the room closed. It ignores an act
// that a reset has undone.
func (rm *room) acted(d *follow.Delivery) {
	if d.Seq <= rm.undone {
		return
	}
	switch d.Kind {
	case proto.Closed:
		e, _ := proto.ParseEvent(d.JSON)
		rm.Head.Closed, rm.Head.Why, rm.Closing = true, e.Why, d.Seq
	case proto.Reopened:
		rm.Head.Closed, rm.Head.Why = false, ""
	}
}

// deliverDropped has the members of a room read the deliveries that the intake has dropped.
// Members learn of a close among them from the log.
func (rs *rooms) deliverDropped(name proto.Room, m *dropped) {
	rm := rs.byName[name]
	if rm == nil || !rm.ready {
		return
	}
	if m.reset || m.epoch != "" && rm.Head.Epoch != "" && m.epoch != rm.Head.Epoch {
		// Nothing says where the log continues. All members have to resume, and so does this
		// loop when they have left.
		rs.lose(rm, nil)
		return
	}
	was := rm.Head.Seq
	rs.skipTo(rm, m.seq)
	rm.Head.Limits = m.limits
	rs.catchups.retract(rm, 0, m.seq)
	if rm.Head.Epoch == "" {
		rm.Head.Epoch = m.epoch
	}
	if m.act.Seq > was {
		rm.acted(&m.act)
	}
}

// tellServed notifies the members that are served from the ring.
func (rs *rooms) tellServed(a *audience, n Notice) {
	for i, m := range a.Members() {
		if m.Cursor != away {
			rs.dispatch.add(rs.idOf(a, i), n)
		}
	}
}

// tellAll notifies all members.
func (rs *rooms) tellAll(rm *room, n Notice) {
	rm.members(func(a *audience, pos int) { rs.dispatch.add(rs.idOf(a, pos), n) })
}

// lose tells all members that nothing more of the room comes.
func (rs *rooms) lose(rm *room, why *proto.Refusal) {
	n := Notice{Kind: Lost, Room: rm.Name}
	if why != nil {
		n.Err = why
	}
	rs.tellAll(rm, n)
	rs.dispatch.run() // now: they leave, and the next member has the room followed again
}

// pushEphemeral appends the present record to the rings of the formats that show it.
func (rs *rooms) pushEphemeral(rm *room, skip uint32) {
	f := ring.Frame{Seq: rm.Head.Seq, Ephemeral: true, Skip: skip}
	for _, a := range rm.audiences {
		if rs.encoder.formats[a.format].Full {
			rs.push(a, f)
		}
	}
}

// push appends the present record to a ring.
func (rs *rooms) push(a *audience, f ring.Frame) {
	if len(a.Members()) == 0 {
		return
	}
	const overhead = 96 // bytes that a format may add to an event
	rs.reserve(a, len(rs.record.Payload)+len(rs.record.Stamp)+overhead)
	was := a.Size()
	shown := a.Append(f, func(b []byte) []byte { return rs.encoder.append(b, a.format, &rs.record) })
	rs.fanout.held.Add(a.Size() - was)
	a.used = rs.second
	if shown {
		rs.fanout.markDirty(a)
	}
}

// reserve makes n more bytes fit into the ring: by dropping what no member needs, by growing,
// and at its bound by letting members fall behind.
func (rs *rooms) reserve(a *audience, n int) {
	if a.Len()+n <= a.Cap() {
		return
	}
	if a.Len() > 0 && a.Cap() >= ring.Small {
		if need := a.Needed(); need > a.Head()-uint64(a.Len()) {
			a.Drop(min(need, a.Half()))
		}
		if a.Len()+n <= a.Cap()*3/4 {
			return
		}
	}
	limit := rs.cfg.RoomBytes
	if rs.cfg.Memory.Full() {
		limit = ring.Small
	}
	if a.Len()+n > limit || a.Cap() >= limit {
		// Members that only wait for their turn are not slow.
		rs.fanout.finish(a)
		need := a.Needed()
		for a.Len() > 0 && a.Len()+n > limit*3/4 {
			rs.dropUpTo(a, a.Half(), &need)
		}
	}
	rs.fanout.resize(a, min(max(2*a.Cap(), a.Len()+n, ring.First), max(limit, a.Len()+n)))
}

// dropUpTo drops the ring's frames before the offset. Members that still needed them, which
// exist if need is before the offset, fall behind: they are served from the log. A session
// that cannot be told of a gap in there is slow.
func (rs *rooms) dropUpTo(a *audience, to uint64, need *uint64) {
	if *need < to {
		for i, m := range a.Members() {
			if m.Cursor >= to {
				continue
			}
			rs.stats.FellBehind.Add(1)
			c := rs.catchups.fallBehind(a, i, a.NextSeq(m.Cursor, a.room.Head.Seq))
			if rs.encoder.formats[a.format].Full {
				rs.catchups.schedule(c)
			} else {
				rs.dispatch.add(c.id(), Notice{Kind: Slow})
			}
		}
		*need = a.Needed()
	}
	a.Drop(to)
}

// skipTo handles events up to seq that have not been delivered here. All members continue
// from the log with the first event that they have not been shown.
func (rs *rooms) skipTo(rm *room, seq uint64) {
	if seq <= rm.Head.Seq {
		return
	}
	for _, a := range rm.audiences {
		rs.fanout.finish(a)
		for i, m := range a.Members() {
			if m.Cursor == away {
				continue
			}
			next := rm.Head.Seq + 1
			if m.Cursor < a.Head() {
				next = a.NextSeq(m.Cursor, rm.Head.Seq)
			}
			rs.catchups.schedule(rs.catchups.fallBehind(a, i, next))
		}
		a.Drop(a.Head())
	}
	rm.Head.Seq, rm.Head.At = seq, time.Time{}
}

// restart forgets the ring's frames, because the next event is not numbered after them.
// Members keep what is due to them.
func (rs *rooms) restart(rm *room) {
	rm.Closing = 0
	for _, a := range rm.audiences {
		rs.fanout.finish(a)
		for i, m := range a.Members() {
			if m.Cursor < a.Head() {
				rs.fanout.takeDue(rs.conns.at(m.Slot), membership{a.self, uint32(i)})
			}
		}
		a.Drop(a.Head())
	}
}
