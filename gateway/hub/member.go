package hub

import (
	"strconv"
	"strings"
	"time"

	"roomcast/gateway/loop"
	"roomcast/proto"
	"roomcast/proto/history"
)

// Open adds a connection, whose output the hub writes from now on. The connection is shown events
// in the given format.
func (h *Hub) Open(id loop.ID, format Format) { h.conns.open(id, format) }

// Gone forgets a connection.
func (h *Hub) Gone(id loop.ID) {
	c := h.conns.known(id)
	if c == nil {
		return
	}
	h.leaveAll(c, false)
	h.out.Forget(&c.out)
	*c = conn{out: c.out}
}

// Session returns the connection's name in [follow.Delivery].Origin.
func (h *Hub) Session(id loop.ID) string {
	return h.cfg.Name + "-" + strconv.FormatUint(uint64(id), 36)
}

// slotOf returns slot+1 of the connection with this Session name, or 0 if it is not this hub's.
func slotOf(session, prefix string) uint32 {
	rest, ours := strings.CutPrefix(session, prefix+"-")
	if n, err := strconv.ParseUint(rest, 36, 64); ours && err == nil && n != 0 {
		return loop.ID(n).Slot() + 1
	}
	return 0
}

// Join makes the connection a member. A Joined or Refused notice follows. The connection first gets
// what its session sends in answer to the notice. Then come the replay that from requests and the
// later events, without a hole or a repeat. A second Join of the same room only causes another
// notice.
func (h *Hub) Join(id loop.ID, name proto.Room, from proto.From) {
	if c := h.conns.live(id); c != nil {
		h.rooms.join(c, name, from)
	}
}

// Leave ends a membership. Bytes that were due to the member before are still sent.
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

// leaveAll ends all memberships of a connection. With send, it first queues the bytes that the
// rings still have for the connection.
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

// Head returns the head of a room that the connection is in.
func (h *Hub) Head(id loop.ID, name proto.Room) (head history.Head, in bool) {
	if !h.In(id, name) {
		return history.Head{}, false
	}
	return h.rooms.byName[name].Head, true
}

// Name returns the hub's own copy of a room's name, so that a session need not keep one.
func (h *Hub) Name(name proto.Room) proto.Room {
	if rm := h.rooms.byName[name]; rm != nil {
		return rm.Name
	}
	return name
}

// RoomsOf returns the rooms the connection is in or about to be in.
func (h *Hub) RoomsOf(id loop.ID) (names []proto.Room) {
	if c := h.conns.live(id); c != nil {
		for _, m := range h.conns.memberships(c) {
			names = append(names, h.fanout.audiences[m.audience].room.Name)
		}
	}
	return names
}

// Send queues whole frames for one connection.
func (h *Hub) Send(id loop.ID, frames []byte) {
	c := h.conns.live(id)
	if c == nil {
		return
	}
	// A connection that takes bytes is not slow, however many came for it in one turn: the session
	// bounds what the client may request. One answer may be larger than the bound, but nothing more
	// may wait behind it.
	due := h.out.Due(&c.out)
	if c.out.Blocked() && (due > 0 && due+len(frames) > h.cfg.QueueBytes || h.cfg.Memory.Full()) {
		h.dispatch.add(id, Notice{Kind: Slow})
		return
	}
	h.out.Append(&c.out, frames)
}

// Text queues a message for one connection alone.
func (h *Hub) Text(id loop.ID, text []byte) {
	if c := h.conns.live(id); c != nil {
		h.Send(id, h.encoder.text(c.format, text))
	}
}

// Event queues an event for one connection alone.
func (h *Hub) Event(id loop.ID, e *proto.Record) {
	if c := h.conns.live(id); c != nil {
		h.Send(id, h.encoder.event(c.format, e))
	}
}

// Close queues a close frame behind everything that is due. A Drained notice follows when all is
// written. The connection is a member of no room from now on.
func (h *Hub) Close(id loop.ID, code proto.CloseCode, reason string) {
	c := h.conns.live(id)
	if c == nil {
		return
	}
	h.leaveAll(c, true)
	h.out.Append(&c.out, h.encoder.close(c.format, code, reason))
	c.out.SetClosing()
}

// Stuck reports whether the connection takes no bytes, and since how many whole seconds.
func (h *Hub) Stuck(id loop.ID) (duration time.Duration, blocked bool) {
	c := h.conns.known(id)
	if c == nil {
		return 0, false
	}
	since, blocked := h.out.StuckSince(&c.out)
	if !blocked {
		return 0, false
	}
	return time.Duration(h.clock.second()-since) * time.Second, true
}

// TellDrained asks for a Drained notice once the connection's queue is written.
func (h *Hub) TellDrained(id loop.ID) {
	if c := h.conns.live(id); c != nil {
		c.out.NotifyDrained()
		h.catchups.schedule(c)
	}
}

// Due returns how many bytes wait for the connection alone.
func (h *Hub) Due(id loop.ID) int {
	if c := h.conns.known(id); c != nil {
		return h.out.Due(&c.out)
	}
	return 0
}

// Writable writes to a connection that takes bytes again.
func (h *Hub) Writable(id loop.ID) {
	if c := h.conns.known(id); c != nil && h.out.Unblock(&c.out) {
		h.pump(c)
		h.noteBlocked()
	}
}

// pump writes what is due to a connection: its queue, then its rings.
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
	// Each call begins with another room, so that a busy one does not starve the others.
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

// noteBlocked sends a notice for each connection that takes no more bytes, and gives back the
// connection's page.
func (h *Hub) noteBlocked() {
	h.out.TakeBlocked(func(id loop.ID) {
		c := h.conns.known(id)
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
