package hub

import (
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/hub/ring"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/history"
)

// deliver handles one delivery of the feeds. Skip is slot+1 of the connection that does not get it;
// 0 = every member gets it.
func (rs *rooms) deliver(d *follow.Delivery, skip uint32) {
	rm := rs.byName[d.Room]
	if rm == nil || !rm.ready {
		return // all members have left, or the pending answer to Follow will have a newer head
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

// deliverGap announces a gap: events that this loop will never be given. Sessions whose format
// shows no gaps get a Lost notice.
func (rs *rooms) deliverGap(rm *room, d *follow.Delivery) {
	g := d.Gap
	rs.dispatch.run() // replays that have just been announced begin with the head from before the gap
	rs.stats.Gaps.Add(1)
	epoch := rm.Head.Epoch
	if g.Reason == proto.GapReset {
		epoch = g.Epoch
	}
	rs.record = proto.Record{Room: rm.Name, Seq: g.To, Kind: wire.KindGap, State: proto.State{Epoch: epoch}, Payload: g.AppendJSON(nil)}
	rs.pushEphemeral(rm, 0)
	for _, a := range rm.audiences {
		if !rs.encoder.formats[a.format].Full {
			rs.tellServed(a, Notice{Kind: Lost, Room: rm.Name}) // members in replay find the gap in the log
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
	rs.dispatch.run() // at once, so that members that leave are not shown later events
}

// reset makes the next event the first one of the room. The head gets its epoch from the gap,
// because the log may be empty and no event may ever name it. Members in replay that have no
// position to continue from get a Lost notice.
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
			// Members that are served from the log get this notice after the events before the
			// closing.
			rs.tellServed(a, Notice{Kind: Closed, Room: rm.Name, Why: rm.Head.Why})
		}
		rs.dispatch.run() // at once, so that members that leave are not shown later events
	}
}

// change handles a deletion or an edit. For an edit, the rings drop all frames up to the edited
// message. For a deletion, they drop all frames up to the last edit of the message. Members that
// still need these frames read the log instead.
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

// expel tells all sessions in the room of a kick or a ban. Each session ends its membership if the
// act names its member.
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
	rs.dispatch.run() // at once, so that members that leave are not shown later events
}

// acted records whether the room is closed after a closing or reopening. It ignores an act from
// before a reset.
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

// deliverDropped handles deliveries that the intake has dropped: the members of the room read these
// events from the log. If one of them is a closing, the log shows the closing too.
func (rs *rooms) deliverDropped(name proto.Room, m *dropped) {
	rm := rs.byName[name]
	if rm == nil || !rm.ready {
		return
	}
	if m.reset || m.epoch != "" && rm.Head.Epoch != "" && m.epoch != rm.Head.Epoch {
		// The loop cannot know where the log continues, so all members have to resume. When they
		// have left, the next join follows the room again.
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

// lose tells all members that the loop gets no more events of the room.
func (rs *rooms) lose(rm *room, why *proto.Refusal) {
	n := Notice{Kind: Lost, Room: rm.Name}
	if why != nil {
		n.Err = why
	}
	rs.tellAll(rm, n)
	rs.dispatch.run() // at once: the members leave, and the next join follows the room again
}

// pushEphemeral appends rs.record to the rings of the formats that show ephemerals.
func (rs *rooms) pushEphemeral(rm *room, skip uint32) {
	f := ring.Frame{Seq: rm.Head.Seq, Ephemeral: true, Skip: skip}
	for _, a := range rm.audiences {
		if rs.encoder.formats[a.format].Full {
			rs.push(a, f)
		}
	}
}

// push appends rs.record to a ring.
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

// reserve makes space for n more bytes in the ring. It drops frames that no member needs, or
// enlarges the buffer. If the buffer has reached its bound, members fall behind.
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
		// Write to all members first: one that only waits for its turn is not slow.
		rs.fanout.finish(a)
		need := a.Needed()
		for a.Len() > 0 && a.Len()+n > limit*3/4 {
			rs.dropUpTo(a, a.Half(), &need)
		}
	}
	rs.fanout.resize(a, min(max(2*a.Cap(), a.Len()+n, ring.First), max(limit, a.Len()+n)))
}

// dropUpTo drops the ring's frames before the offset. Members that still need them fall behind: the
// log serves them, or they get a Slow notice if their format shows no gaps. Need is the lowest
// cursor, which dropUpTo keeps current.
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

// skipTo handles events up to seq that this loop has not been given. All members continue from the
// log, each with the first event that it has not been shown.
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

// restart drops the ring's frames, because the seq of the next event does not continue theirs.
// Frames that members have not been sent yet move to the queues of their connections.
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
