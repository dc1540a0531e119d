package hub

import (
	"time"

	"roomcast/gateway/follow"
	"roomcast/proto"
	"roomcast/proto/history"
)

// deliver takes what the bridge hands on.
func (h *Hub) deliver(d *follow.Delivery) {
	rm := h.rooms[d.Room]
	if rm == nil || !rm.ready {
		return // everybody has left; or the head that follows will include it
	}
	switch {
	case d.Lost != nil:
		h.lose(rm, d.Lost)
	case d.Gap != nil:
		h.deliverGap(rm, d.Gap)
	case d.Seq == 0:
		f := frame{seq: rm.head.Seq, eph: true}
		if id := h.ofSession(d.Origin); id != 0 {
			f.skip = id.Slot() + 1
		}
		for enc, r := range rm.rings {
			if r != nil && Encoding(enc).json() {
				h.push(r, f, d.JSON, proto.Span{}, "")
			}
		}
	default:
		h.deliverEvent(rm, d)
	}
}

// deliverGap announces events that this loop will never be given. Text sessions cannot be
// told, and are closed.
func (h *Hub) deliverGap(rm *room, g *proto.Gap) {
	h.dispatch() // those who have just joined begin in the history that they were told of
	h.stats.Gaps.Add(1)
	h.scratch = g.AppendJSON(h.scratch[:0])
	for enc, r := range rm.rings {
		switch {
		case r == nil:
		case Encoding(enc).json():
			h.push(r, frame{seq: rm.head.Seq, eph: true}, h.scratch, proto.Span{}, "")
		default:
			h.tellLost(r)
		}
	}
	if g.Reason == proto.GapReset {
		h.reset(rm, g)
	} else if g.To > rm.head.Seq {
		rm.head.Seq, rm.head.At = g.To, time.Time{}
	}
	h.dispatch() // now: whoever leaves is not shown what comes after
}

// reset has the room begin with the next event. The log may be empty, and whoever comes
// next waits for no event to say so.
func (h *Hub) reset(rm *room, g *proto.Gap) {
	for _, r := range rm.rings {
		for i := 0; r != nil && i < len(r.members); i++ {
			id := h.conn(r.members[i].slot).id
			// The log tells a member that is served from it of the reset, by the epoch. One
			// that knows no other epoch has to ask anew.
			if cu := h.catching[seat{id, r.self}]; cu != nil && cu.told && (cu.epoch == "" || cu.epoch == g.Epoch) {
				h.tell(id, Notice{Kind: Lost, Room: rm.name})
			}
		}
	}
	h.restart(rm)
	rm.head, rm.began, rm.undone = history.Head{Epoch: g.Epoch}, true, g.Seq
}

func (h *Hub) deliverEvent(rm *room, d *follow.Delivery) {
	switch next := rm.head.Seq + 1; {
	case rm.began || d.Epoch != "" && d.Epoch != rm.head.Epoch:
		h.restart(rm)
		rm.began = false
	case d.Seq < next:
		return // a repeat
	case d.Seq > next:
		h.skipTo(rm, d.Seq-1)
	}
	rm.head.Seq, rm.head.At = d.Seq, d.At
	if d.Epoch != "" {
		rm.head.Epoch = d.Epoch
	}
	for _, r := range rm.rings {
		if r != nil {
			h.push(r, frame{seq: d.Seq, time: d.At.UnixMilli()}, d.JSON, d.Text, d.Stamp)
		}
	}
	if rm.acted(d); d.Kind == proto.Closed && d.Seq > rm.undone {
		h.tellClosed(rm)
		h.dispatch() // now: whoever leaves is not shown what comes after
	}
}

// acted keeps whether a closing or reopening has left the room closed.
func (rm *room) acted(d *follow.Delivery) {
	if d.Seq <= rm.undone {
		return
	}
	switch d.Kind {
	case proto.Closed:
		e, _ := proto.ParseEvent(d.JSON)
		rm.head.Closed, rm.head.Why, rm.closing = true, e.Why, d.Seq
	case proto.Reopened:
		rm.head.Closed, rm.head.Why = false, ""
	}
}

// letGo has the members of a room read what the inbox has let go. They are told of a
// closing among it when the log has shown it to them.
func (h *Hub) letGo(rm *room, m *missed) {
	if rm == nil || !rm.ready {
		return
	}
	if m.reset || m.epoch != "" && rm.head.Epoch != "" && m.epoch != rm.head.Epoch {
		// Nothing tells where the log continues. All members ask anew, and so does this loop
		// when they have left.
		for _, r := range rm.rings {
			for i := 0; r != nil && i < len(r.members); i++ {
				h.tell(h.conn(r.members[i].slot).id, Notice{Kind: Lost, Room: rm.name})
			}
		}
		h.dispatch()
		return
	}
	was := rm.head.Seq
	h.skipTo(rm, m.seq)
	if rm.head.Epoch == "" {
		rm.head.Epoch = m.epoch
	}
	if m.act.Seq > was {
		rm.acted(&m.act)
	}
}

// tellClosed tells the members that are served from the ring. Those who are not are told
// when they have been shown what came before.
func (h *Hub) tellClosed(rm *room) {
	for _, r := range rm.rings {
		for i := 0; r != nil && i < len(r.members); i++ {
			if m := r.members[i]; m.cursor != catching {
				h.tell(h.conn(m.slot).id, Notice{Kind: Closed, Room: rm.name, Why: rm.head.Why})
			}
		}
	}
}

// tellLost tells the members that are served from the ring that they miss events. Those
// who are not find the gap in the log.
func (h *Hub) tellLost(r *ring) {
	for _, m := range r.members {
		if m.cursor != catching {
			h.tell(h.conn(m.slot).id, Notice{Kind: Lost, Room: r.room.name})
		}
	}
}

// lose tells all members that nothing more of the room comes.
func (h *Hub) lose(rm *room, why error) {
	for _, r := range rm.rings {
		for i := 0; r != nil && i < len(r.members); i++ {
			h.tell(h.conn(r.members[i].slot).id, Notice{Kind: Lost, Room: rm.name, Err: why})
		}
	}
	h.dispatch() // now: they leave, and whoever comes next asks for the room anew
}

// push appends one frame to a ring.
func (h *Hub) push(r *ring, f frame, json []byte, text proto.Span, stamp string) {
	if len(r.members) == 0 {
		return
	}
	const header = 16 // of a frame, and what stands between stamp and text
	h.makeRoom(r, len(json)+len(stamp)+header)
	f.at = r.head()
	was := r.size()
	r.buf = h.encode(r.buf, r.enc, json, text, stamp)
	r.frames = append(r.frames, f)
	h.rung.Add(r.size() - was)
	if f.skip != 0 {
		r.shy = r.head()
	}
	r.used = h.second
	if r.head() > f.at {
		h.soil(r)
	}
}

// makeRoom sees to it that n more bytes fit into the ring: by dropping what nobody
// needs, by growing, and at its bound by overtaking those who are far behind.
func (h *Hub) makeRoom(r *ring, n int) {
	if len(r.buf)+n <= cap(r.buf) {
		return
	}
	if len(r.frames) > 0 && cap(r.buf) >= ringSmall {
		if need := r.needed(); need > r.base {
			r.drop(min(need, r.half()))
		}
		if len(r.buf)+n <= cap(r.buf)*3/4 {
			return
		}
	}
	limit := h.cfg.RoomBytes
	if h.full() {
		limit = ringSmall
	}
	if len(r.buf)+n > limit || cap(r.buf) >= limit {
		// Those who only wait for their turn are not slow.
		h.finish(r)
		need := r.needed()
		for len(r.buf) > 0 && len(r.buf)+n > limit*3/4 {
			h.dropUpTo(r, r.half(), &need)
		}
	}
	h.resize(r, min(max(2*cap(r.buf), len(r.buf)+n, ringFirst), max(limit, len(r.buf)+n)))
}

// dropUpTo drops the ring's frames before the offset. Members that still needed them,
// which there are if need is before it, are overtaken.
func (h *Hub) dropUpTo(r *ring, to uint64, need *uint64) {
	if *need < to {
		for i := range r.members {
			if m := &r.members[i]; m.cursor < to {
				h.overtake(r, i, r.next(m.cursor))
			}
		}
		*need = r.needed()
	}
	r.drop(to)
}

// overtake takes a member off the ring, to be served from the log beginning with seq.
// A text session cannot be told of a gap and so is closed as slow.
func (h *Hub) overtake(r *ring, i int, seq uint64) {
	m := &r.members[i]
	c := h.conn(m.slot)
	h.stats.Overtaken.Add(1)
	m.cursor = catching
	h.catching[seat{c.id, r.self}] = r.room.from(seq)
	if !r.enc.json() {
		h.tell(c.id, Notice{Kind: Slow})
		return
	}
	h.goOn(c)
}

// resize gives the ring a buffer of another size, a smaller one only where that is
// worth the copy.
func (h *Hub) resize(r *ring, size int) {
	if size <= cap(r.buf) && size > cap(r.buf)/4 {
		return
	}
	buf := make([]byte, len(r.buf), size)
	copy(buf, r.buf)
	h.rung.Add(cap(buf) - cap(r.buf))
	r.buf = buf
	if !r.warm {
		r.warm = true
		h.warm = append(h.warm, r)
	}
}

// skipTo takes note that events up to seq have not been delivered here. Everybody goes
// on from the log with the first of them.
func (h *Hub) skipTo(rm *room, seq uint64) {
	if rm == nil || !rm.ready || seq <= rm.head.Seq {
		return
	}
	first := rm.head.Seq + 1
	for _, r := range rm.rings {
		if r == nil {
			continue
		}
		h.finish(r)
		for i := range r.members {
			m := &r.members[i]
			if m.cursor == catching {
				continue
			}
			c := h.conn(m.slot)
			from := first
			if m.cursor < r.head() {
				from = r.next(m.cursor)
			}
			m.cursor = catching
			h.catching[seat{c.id, r.self}] = rm.from(from)
			h.goOn(c)
		}
		r.drop(r.head())
	}
	rm.head.Seq, rm.head.At = seq, time.Time{}
}

// restart forgets the ring's frames, for what comes next is not numbered after them.
// Members keep what is due to them.
func (h *Hub) restart(rm *room) {
	rm.closing = 0
	for _, r := range rm.rings {
		if r == nil {
			continue
		}
		h.finish(r)
		for i := range r.members {
			if m := &r.members[i]; m.cursor < r.head() {
				h.takeDue(h.conn(m.slot), place{r.self, uint32(i)})
			}
		}
		r.drop(r.head())
	}
}
