package hub

import (
	"strconv"
	"strings"
	"time"

	"roomcast/gateway/loop"
	"roomcast/proto"
	"roomcast/proto/history"
)

// Open adds a connection. From now on the hub writes all bytes of the connection. The connection
// receives events in the given format.
func (h *Hub) Open(id loop.ID, format Format) { h.conns.open(id, format) }

// Gone removes a connection that has ended.
func (h *Hub) Gone(id loop.ID) {
	c := h.conns.get(id)
	if c == nil {
		return
	}
	h.leaveAll(c, false)
	h.out.Forget(&c.out)
	*c = conn{out: c.out}
}

// Session returns the connection's session name, which [follow.Delivery].Origin uses.
func (h *Hub) Session(id loop.ID) string {
	return h.cfg.Name + "-" + strconv.FormatUint(uint64(id), 36)
}

// slotOf returns 1 + the slot of the connection with the given session name. It returns 0 if the
// connection belongs to another hub.
func slotOf(session, prefix string) uint32 {
	rest, ours := strings.CutPrefix(session, prefix+"-")
	if n, err := strconv.ParseUint(rest, 36, 64); ours && err == nil && n != 0 {
		return loop.ID(n).Slot() + 1
	}
	return 0
}

// Join makes the connection a member of a room. A Joined or Refused notice follows. In response
// to a Joined notice, the session sends its answer to the client. After that answer, the
// connection receives the replay, which begins at the position from, and then the later events,
// each once and in order. A second Join of the same room only causes another notice.
func (h *Hub) Join(id loop.ID, name proto.Room, from proto.From) {
	if c := h.conns.live(id); c != nil {
		h.rooms.join(c, name, from)
	}
}

// Leave ends a membership. The connection still receives the events from before the call.
func (h *Hub) Leave(id loop.ID, name proto.Room) {
	c, rm := h.conns.live(id), h.rooms.byName[name]
	if c == nil || rm == nil {
		return
	}
	if i := h.rooms.find(c, rm); i >= 0 {
		h.fanout.takeDue(c, h.conns.memberships(c)[i])
		h.rooms.leave(c, i)
	}
}

// leaveAll ends all memberships of a connection. If send is true, it first queues the frames in
// the rings that the connection has not received.
func (h *Hub) leaveAll(c *conn, send bool) {
	for n := len(h.conns.memberships(c)); n > 0; n-- {
		if send {
			h.fanout.takeDue(c, h.conns.memberships(c)[n-1])
		}
		h.rooms.leave(c, n-1)
	}
}

// In reports whether the connection is a member of the room and the room is followed.
func (h *Hub) In(id loop.ID, name proto.Room) bool {
	c, rm := h.conns.live(id), h.rooms.byName[name]
	return c != nil && rm != nil && rm.ready && h.rooms.find(c, rm) >= 0
}

// Head returns the head of a room that the connection is in, and the epoch in which the connection
// joined. The epoch is "" if the room was empty then.
func (h *Hub) Head(id loop.ID, name proto.Room) (head history.Head, epoch string, in bool) {
	if !h.In(id, name) {
		return history.Head{}, "", false
	}
	rm, c := h.rooms.byName[name], h.conns.live(id)
	epoch, earlier := rm.joined[memberKey{id, rm.audienceOf(c.format).self}]
	if !earlier {
		epoch = rm.Head.Epoch
	}
	return rm.Head, epoch, true
}

// Name returns the hub's own copy of a room's name. If sessions use it, they share its memory.
func (h *Hub) Name(name proto.Room) proto.Room {
	if rm := h.rooms.byName[name]; rm != nil {
		return rm.Name
	}
	return name
}

// RoomsOf returns the rooms that the connection has joined, including those whose head is not
// known yet.
func (h *Hub) RoomsOf(id loop.ID) (names []proto.Room) {
	if c := h.conns.live(id); c != nil {
		for _, m := range h.conns.memberships(c) {
			names = append(names, h.fanout.audiences[m.audience].room.Name)
		}
	}
	return names
}

// Send queues bytes for one connection. They must be whole frames.
func (h *Hub) Send(id loop.ID, frames []byte) {
	if c := h.conns.live(id); c != nil && !h.out.Offer(&c.out, frames) {
		h.dispatch.add(id, Notice{Kind: Slow})
	}
}

// Text queues a message that is for one connection only.
func (h *Hub) Text(id loop.ID, text []byte) {
	if c := h.conns.live(id); c != nil {
		h.Send(id, h.encoder.text(c.format, text))
	}
}

// Event queues an event that is for one connection only.
func (h *Hub) Event(id loop.ID, e *proto.Record) {
	if c := h.conns.live(id); c != nil {
		h.Send(id, h.encoder.event(c.format, e))
	}
}

// Close ends all memberships of the connection and queues a close frame after all other bytes.
// When all bytes have been written, a Drained notice follows.
func (h *Hub) Close(id loop.ID, code proto.CloseCode, reason string) {
	c := h.conns.live(id)
	if c == nil {
		return
	}
	h.leaveAll(c, true)
	h.out.Append(&c.out, h.encoder.close(c.format, code, reason))
	c.out.SetClosing()
}

// Stuck reports whether the connection accepts no bytes, and for how many whole seconds.
func (h *Hub) Stuck(id loop.ID) (duration time.Duration, blocked bool) {
	c := h.conns.get(id)
	if c == nil {
		return 0, false
	}
	since, blocked := h.out.StuckSince(&c.out)
	if !blocked {
		return 0, false
	}
	return time.Duration(h.clock.second()-since) * time.Second, true
}

// TellDrained requests a Drained notice for when the connection's queue has been written.
func (h *Hub) TellDrained(id loop.ID) {
	if c := h.conns.live(id); c != nil {
		c.out.NotifyDrained()
		h.catchups.schedule(c)
	}
}

// Due returns the number of bytes in the connection's queue.
func (h *Hub) Due(id loop.ID) int {
	if c := h.conns.get(id); c != nil {
		return h.out.Due(&c.out)
	}
	return 0
}

// Writable continues to write to a connection that accepts bytes again.
func (h *Hub) Writable(id loop.ID) {
	if c := h.conns.get(id); c != nil && h.out.Unblock(&c.out) {
		h.pump(c)
		h.noteBlocked()
	}
}

// pump writes the bytes that wait for a connection: first its queue, then its rings.
func (h *Hub) pump(c *conn) {
	if c.id() == 0 || c.out.Blocked() {
		return
	}
	h.fanout.coalesce(c)
	if !h.out.Flush(&c.out, h.clock.second()) {
		return
	}
	if c.out.Drained() {
		h.dispatch.add(c.id(), Notice{Kind: Drained})
	}
	if c.out.Closing() {
		return
	}
	// Each call begins with another room, so that a busy room does not hold up the others.
	list, first := h.conns.memberships(c), int(c.turn)
	c.turn++
	if c.flags&paging != 0 {
		c.flags &^= paging
		for i := range list {
			h.catchups.advance(c, list[(first+i)%len(list)])
		}
	}
	for i := range list {
		if c.out.Busy() {
			return
		}
		h.fanout.serveMember(c, list[(first+i)%len(list)])
	}
}

// noteBlocked sends a notice for each connection that has stopped accepting bytes, and releases
// the connection's page.
func (h *Hub) noteBlocked() {
	h.out.TakeBlocked(func(id loop.ID) {
		c := h.conns.get(id)
		if c == nil {
			return
		}
		h.catchups.releasePage(c)
		kind := Blocked
		if h.cfg.Memory.Full() {
			kind = Slow
		}
		h.dispatch.add(id, Notice{Kind: kind})
	})
}
