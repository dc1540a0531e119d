package hub

import (
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/hub/ring"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/history"
)

// deliver handles a delivery from a feed. The parameter skip is 1 + the slot of the connection that
// sent the signal, and so must not receive it. If skip is 0, all members receive the delivery.
func (rs *rooms) deliver(d *follow.Delivery, skip uint32) {
	rm := rs.byName[d.Room]
	if rm == nil || !rm.ready {
		return // there are no members, or the answer to Follow is still to come and will have a newer head
	}
	switch {
	case d.Lost != nil:
		rs.lose(rm, d.Lost)
	case d.Gap != nil:
		rs.deliverGap(rm, d)
	case d.Seq == 0:
		rs.record = proto.Record{Room: d.Room, Payload: d.JSON}
		rs.pushEphemeral(rm, ring.Frame{Skip: skip})
		rs.catchups.interject(rm, &rs.record, skip)
	default:
		rs.deliverEvent(rm, d)
	}
}

// deliverGap tells members that the gateway cannot deliver some events. If a format cannot
// express gaps, its sessions get a Lost notice instead.
func (rs *rooms) deliverGap(rm *room, d *follow.Delivery) {
	g := d.Gap
	rs.dispatch.run() // earlier Joined notices first: their replays must begin with the head from before the gap
	rs.stats.Gaps.Add(1)
	epoch := rm.Head.Epoch
	if g.Reason == proto.GapReset {
		epoch = g.Epoch
	}
	rs.record = proto.Record{Room: rm.Name, Seq: g.To, Kind: wire.KindGap, State: proto.State{Epoch: epoch}, Payload: g.AppendJSON(nil)}
	rs.pushEphemeral(rm, ring.Frame{Gap: true})
	for _, a := range rm.audiences {
		if !rs.encoder.formats[a.format].Full {
			rs.tellServed(a, Notice{Kind: Lost, Room: rm.Name}) // members in replay find the gap in the log themselves
		}
	}
	if g.Reason == proto.GapReset {
		rs.reset(rm, g)
	} else if g.To > rm.Head.Seq {
		rm.Head.Seq, rm.Head.At = g.To, time.Time{}
	}
	if rm.Head.Limits = d.Limits; d.Limits != nil { // the missing events may include a ban
		rs.tellAll(rm, Notice{Kind: Barred, Room: rm.Name, Head: rm.Head})
	}
	rs.dispatch.run() // notify now: members that leave must not receive later events
}

// reset makes the next event the first event of a new epoch. It takes the epoch from the gap,
// because the log may be empty. Some members in replay would not know where to continue. Their
// sessions get a Lost notice.
func (rs *rooms) reset(rm *room, g *proto.Gap) {
	rm.members(func(a *audience, pos int) {
		id := rs.idOf(a, pos)
		if cu := rs.catchups.members[memberKey{id, a.self}]; cu != nil && cu.Restarts(g.Epoch) {
			rs.dispatch.add(id, Notice{Kind: Lost, Room: rm.Name})
		}
	})
	rs.restart(rm)
	rs.renew(rm, g.Epoch)
	rm.Head, rm.began, rm.undone = history.Head{Epoch: g.Epoch}, true, g.Seq
}

func (rs *rooms) deliverEvent(rm *room, d *follow.Delivery) {
	switch next := rm.Head.Seq + 1; {
	case rm.began || d.Epoch != "" && d.Epoch != rm.Head.Epoch:
		rs.restart(rm)
		rs.renew(rm, d.Epoch)
		rm.began = false
	case d.Seq < next:
		return // delivered before
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
			// Members that are served from the log do not get this notice now. They get it after
			// the events that precede the close.
			rs.tellServed(a, Notice{Kind: Closed, Room: rm.Name, Why: rm.Head.Why})
		}
		rs.dispatch.run() // notify now: members that leave must not receive later events
	}
}

// change handles a deletion or an edit of an earlier message. The rings must not contain the old
// text any more. For an edit, the rings drop all frames up to the edited message. For a
// deletion, they drop all frames up to the message's last edit. Members that have not received
// these frames are served from the log.
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
		to, found := a.OffsetAfter(last)
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

// expel reports a kick or a ban to all sessions in the room. If the act names the user of a
// session, the session ends its membership.
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
	rs.dispatch.run() // notify now: members that leave must not receive later events
}

// acted records whether the room is closed, after an act has closed or reopened it. It ignores
// an act from before a reset.
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

// deliverDropped handles deliveries that the intake has dropped. The members of the room are
// served from the log, which contains these events. If one of the events is a close, the members
// find it in the log.
func (rs *rooms) deliverDropped(name proto.Room, m *dropped) {
	rm := rs.byName[name]
	if rm == nil || !rm.ready {
		return
	}
	if m.reset || m.epoch != "" && rm.Head.Epoch != "" && m.epoch != rm.Head.Epoch {
		// The loop cannot know where the log continues. So all members must leave and resume.
		// When all have left, the next join makes the hub follow the room again.
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

// tellServed sends a notice to the members that are served from the ring.
func (rs *rooms) tellServed(a *audience, n Notice) {
	for i, m := range a.Members() {
		if m.Cursor != away {
			rs.dispatch.add(rs.idOf(a, i), n)
		}
	}
}

// tellAll sends a notice to all members of the room.
func (rs *rooms) tellAll(rm *room, n Notice) {
	rm.members(func(a *audience, pos int) { rs.dispatch.add(rs.idOf(a, pos), n) })
}

// lose sends a Lost notice to all members, because no more events of the room will be delivered
// to this loop.
func (rs *rooms) lose(rm *room, why *proto.Refusal) {
	n := Notice{Kind: Lost, Room: rm.Name}
	if why != nil {
		n.Err = why
	}
	rs.tellAll(rm, n)
	rs.dispatch.run() // notify now: when the members have left, the next join makes the hub follow the room again
}

// pushEphemeral appends rs.record to the rings whose formats include ephemerals.
func (rs *rooms) pushEphemeral(rm *room, f ring.Frame) {
	f.Seq, f.Ephemeral = rm.Head.Seq, true
	for _, a := range rm.audiences {
		if rs.encoder.formats[a.format].Full {
			rs.push(a, f)
		}
	}
}

// push appends rs.record to a ring, unless the ring has no members.
func (rs *rooms) push(a *audience, f ring.Frame) {
	if len(a.Members()) == 0 {
		return
	}
	const overhead = 96 // the most bytes that a format adds to an event
	rs.reserve(a, len(rs.record.Payload)+len(rs.record.Stamp)+overhead)
	was := a.Size()
	shown := a.Append(f, func(b []byte) []byte { return rs.encoder.append(b, a.format, &rs.record) })
	rs.fanout.held.Add(a.Size() - was)
	a.used = rs.second
	if shown {
		rs.fanout.markDirty(a)
	}
}

// reserve makes space for n more bytes in the ring. If it can, it drops frames that every member
// has received. Otherwise it enlarges the buffer. If the buffer may not grow further, reserve
// drops frames that some members still need, and these members fall behind.
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
		// First write to all members. A member that only waits for its turn is not slow, and
		// must not fall behind.
		rs.fanout.finish(a)
		need := a.Needed()
		for a.Len() > 0 && a.Len()+n > limit*3/4 {
			rs.dropUpTo(a, a.Half(), &need)
		}
	}
	rs.fanout.resize(a, min(max(2*a.Cap(), a.Len()+n, ring.First), max(limit, a.Len()+n)))
}

// dropUpTo drops the ring's frames before the given offset. Members that still need these frames
// fall behind. From then on the hub serves them from the log. If their format cannot express gaps,
// their sessions get a Slow notice. The parameter need points to the lowest cursor of all members.
// The function updates this cursor.
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

// skipTo handles events up to seq that were not delivered to this loop. It makes the hub serve
// all members from the log. Each member continues with the first event that it has not received.
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

// restart empties the ring, because the seq of the next event does not follow the seqs in the
// ring. It first moves the frames that some members have not received to the queues of their
// connections.
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
