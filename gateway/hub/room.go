package hub

import (
	"roomcast/gateway/loop"
	"roomcast/proto"
	"roomcast/proto/history"
)

// room is what one loop knows of a room some of its connections are in.
type room struct {
	name  proto.Room
	head  history.Head // Seq is that of the newest event delivered to this loop
	ready bool         // followed: head is known and deliveries count
	began bool         // a reset has been announced: the next event is the first one, whatever its seq
	// closing is the seq of the newest closing delivered to this loop, in head's epoch; 0 = none.
	closing uint64
	undone  uint64 // closings up to this seq are of the time before a reset, and have been undone
	rings   [encodings]*ring
	count   int // members in all rings
}

// place is a membership as its connection knows it: ring index and position in there.
type place struct{ ring, at uint32 }

// Join makes the connection a member. A Joined or Refused notice follows, possibly
// at once; whatever is sent in answer to it goes out before what from asks for, and
// that before the events that follow, without a hole or a repeat. Joining a room twice
// changes nothing and is answered by another notice.
func (h *Hub) Join(id loop.ID, name proto.Room, from proto.From) {
	c := h.live(id)
	if c == nil {
		return
	}
	rm := h.rooms[name]
	if rm == nil {
		rm = h.follow(name)
	}
	if h.placeOf(c, rm) >= 0 {
		if rm.ready {
			h.tell(id, Notice{Kind: Joined, Room: name, Head: rm.head})
		}
		return
	}
	r := rm.rings[c.enc]
	if r == nil {
		r = h.addRing(rm, c.enc)
	}
	h.addPlace(c, place{ring: r.self, at: uint32(len(r.members))})
	r.members = append(r.members, member{cursor: catching, slot: id.Slot()})
	rm.count++
	h.catchUp(id, r, catchup{from: from})
}

// Leave ends a membership. What was due to the member before is still sent.
func (h *Hub) Leave(id loop.ID, name proto.Room) {
	c, rm := h.live(id), h.rooms[name]
	if c == nil || rm == nil {
		return
	}
	if i := h.placeOf(c, rm); i >= 0 {
		h.takeDue(c, h.placesOf(c)[i])
		h.removePlace(c, i)
	}
}

// In reports whether the connection is a member of the room, and has been told so.
func (h *Hub) In(id loop.ID, name proto.Room) bool {
	c, rm := h.live(id), h.rooms[name]
	return c != nil && rm != nil && rm.ready && h.placeOf(c, rm) >= 0
}

// Head returns the newest event of a room the connection is in.
func (h *Hub) Head(id loop.ID, name proto.Room) (head history.Head, in bool) {
	if !h.In(id, name) {
		return history.Head{}, false
	}
	return h.rooms[name].head, true
}

// Name returns the hub's own copy of a room's name, so that a session need not keep one.
func (h *Hub) Name(name proto.Room) proto.Room {
	if rm := h.rooms[name]; rm != nil {
		return rm.name
	}
	return name
}

// Rooms returns the number of rooms the connection is in or about to be in.
func (h *Hub) Rooms(id loop.ID) int {
	if c := h.live(id); c != nil {
		return len(h.placesOf(c))
	}
	return 0
}

// RoomsOf returns the rooms the connection is in or about to be in.
func (h *Hub) RoomsOf(id loop.ID) (names []proto.Room) {
	if c := h.live(id); c != nil {
		for _, p := range h.placesOf(c) {
			names = append(names, h.rings[p.ring].room.name)
		}
	}
	return names
}

// follow begins to hear a room.
func (h *Hub) follow(name proto.Room) *room {
	rm := &room{name: name}
	h.rooms[name] = rm
	h.stats.Rooms.Add(1)
	h.log.Follow(name, &h.inbox, func(head history.Head, err error) {
		h.inbox.put(func() { h.followed(rm, head, err) })
	})
	return rm
}

// followed takes the outcome of following a room, for all who wait for it.
func (h *Hub) followed(rm *room, head history.Head, err error) {
	if h.rooms[rm.name] != rm {
		return // everybody had left; the next one followed anew
	}
	rm.ready, rm.head = err == nil, head
	for _, r := range rm.rings {
		if r == nil {
			continue
		}
		for i := 0; i < len(r.members); i++ {
			id := h.conn(r.members[i].slot).id
			if err == nil {
				h.tell(id, Notice{Kind: Joined, Room: rm.name, Head: head})
				continue
			}
			h.tell(id, Notice{Kind: Refused, Room: rm.name, Err: err})
		}
	}
	if err == nil {
		return
	}
	for _, r := range rm.rings {
		for r != nil && len(r.members) > 0 {
			c := h.conn(r.members[0].slot)
			h.removePlace(c, h.placeOf(c, rm))
		}
	}
}

// forget stops hearing a room nobody is in.
func (h *Hub) forget(rm *room) {
	for _, r := range rm.rings {
		if r != nil {
			h.dropRing(r)
		}
	}
	delete(h.rooms, rm.name)
	h.stats.Rooms.Add(-1)
	h.log.Unfollow(rm.name, &h.inbox)
}

// answerWho tells who of this loop is in a room.
func (h *Hub) answerWho(name proto.Room, answer func(int, []proto.Identity)) {
	rm := h.rooms[name]
	if rm == nil {
		answer(0, nil)
		return
	}
	list := make([]proto.Identity, 0, min(rm.count, proto.MaxListed))
	for _, r := range rm.rings {
		for i := 0; r != nil && i < len(r.members) && len(list) < proto.MaxListed; i++ {
			list = append(list, h.sessions.Identity(h.conn(r.members[i].slot).id))
		}
	}
	answer(rm.count, list)
}

func (h *Hub) addRing(rm *room, enc Encoding) *ring {
	r := &ring{room: rm, enc: enc}
	if n := len(h.freeRings); n > 0 {
		r.self = h.freeRings[n-1]
		h.freeRings = h.freeRings[:n-1]
		h.rings[r.self] = r
	} else {
		r.self = uint32(len(h.rings))
		h.rings = append(h.rings, r)
	}
	rm.rings[enc] = r
	return r
}

func (h *Hub) dropRing(r *ring) {
	h.rung.Add(-r.size())
	r.buf, r.frames = nil, nil
	r.room.rings[r.enc] = nil
	h.rings[r.self] = nil
	h.freeRings = append(h.freeRings, r.self)
}

// addPlace notes a membership with its connection.
func (h *Hub) addPlace(c *conn, p place) {
	switch {
	case c.many != 0:
		h.many[c.many-1] = append(h.many[c.many-1], p)
	case c.rooms == 0:
		c.one, c.rooms = [1]place{p}, 1
	default:
		list := []place{c.one[0], p}
		if n := len(h.freeMany); n > 0 {
			c.many = h.freeMany[n-1]
			h.freeMany = h.freeMany[:n-1]
			h.many[c.many-1] = list
		} else {
			h.many = append(h.many, list)
			c.many = uint32(len(h.many))
		}
	}
}

// placesOf returns the connection's memberships, to be changed in place only.
func (h *Hub) placesOf(c *conn) []place {
	if c.many != 0 {
		return h.many[c.many-1]
	}
	return c.one[:c.rooms]
}

// placeOf returns which of the connection's memberships is in the room, or -1.
func (h *Hub) placeOf(c *conn, rm *room) int {
	if r := rm.rings[c.enc]; r != nil {
		for i, p := range h.placesOf(c) {
			if p.ring == r.self {
				return i
			}
		}
	}
	return -1
}

// removePlace takes the connection out of a ring, and lets go of ring and room if it
// was the last. The member at the end takes its position; while a pass is under way
// two move, so that nobody is passed over.
func (h *Hub) removePlace(c *conn, i int) {
	list := h.placesOf(c)
	p := list[i]
	list[i] = list[len(list)-1]
	switch {
	case c.many == 0:
		c.rooms = 0
	default:
		list = list[:len(list)-1]
		h.many[c.many-1] = list
		if len(list) == 0 {
			h.many[c.many-1] = nil
			h.freeMany = append(h.freeMany, c.many)
			c.many, c.rooms = 0, 0
		}
	}

	r := h.rings[p.ring]
	if r.members[p.at].cursor == catching {
		s := seat{c.id, p.ring}
		if cu := h.catching[s]; cu != nil {
			h.release(c, cu)
		}
		delete(h.catching, s)
	}
	at, last := int(p.at), len(r.members)-1
	if at < r.pos {
		r.pos--
		h.moveMember(r, r.pos, at)
		at = r.pos
	}
	h.moveMember(r, last, at)
	r.members = r.members[:last]
	r.room.count--
	if r.room.count == 0 {
		h.forget(r.room)
	} else if last == 0 {
		h.dropRing(r)
	}
}

func (h *Hub) moveMember(r *ring, from, to int) {
	if from == to {
		return
	}
	r.members[to] = r.members[from]
	for i, list := 0, h.placesOf(h.conn(r.members[to].slot)); i < len(list); i++ {
		if list[i].ring == r.self {
			list[i].at = uint32(to)
			return
		}
	}
}
