package hub

import (
	"roomcast/gateway/hub/outbox"
	"roomcast/gateway/loop"
)

// conn is the hub's state of one connection. It has 32 bytes and contains no pointer.
type conn struct {
	out    outbox.Conn
	one    [1]membership // the connection's membership, if many is 0 and rooms is 1
	many   uint32        // 1 + index in conns.many; 0 = the connection has at most one membership, stored in one
	rooms  uint8         // the number of memberships, if many is 0
	turn   uint8         // decides which of several memberships the hub serves first
	format Format
	flags  flags
}

// flags says what the replays of a connection need.
type flags uint8

const (
	paging  flags = 1 << iota // a replay of the connection has records to send
	holding                   // a replay of the connection has a page, or is reading one
)

func (c *conn) id() loop.ID { return c.out.ID }

// membership says where a member is in an audience. The member's connection keeps it.
type membership struct {
	audience uint32 // index in fanout.audiences
	pos      uint32 // position of the member in the audience's ring
}

const slabSize = 1024

// conns contains the connections of a loop and their memberships. The loop owns it.
type conns struct {
	slab   []*[slabSize]conn
	many   [][]membership // memberships of the connections that are or were in several rooms
	unused []uint32       // 1 + index, for the free entries of many
}

func (cs *conns) at(slot uint32) *conn { return &cs.slab[slot/slabSize][slot%slabSize] }

// get returns the connection, or nil if it is not open.
func (cs *conns) get(id loop.ID) *conn {
	if slot := id.Slot(); int(slot/slabSize) < len(cs.slab) {
		if c := cs.at(slot); c.out.ID == id && id != 0 {
			return c
		}
	}
	return nil
}

// live returns the connection. It returns nil if the connection is not open or is closing.
func (cs *conns) live(id loop.ID) *conn {
	if c := cs.get(id); c != nil && !c.out.Closing() {
		return c
	}
	return nil
}

func (cs *conns) open(id loop.ID, format Format) {
	slot := id.Slot()
	for int(slot/slabSize) >= len(cs.slab) {
		cs.slab = append(cs.slab, new([slabSize]conn))
	}
	*cs.at(slot) = conn{out: outbox.Conn{ID: id}, format: format}
}

// add adds a membership to its connection.
func (cs *conns) add(c *conn, m membership) {
	switch {
	case c.many != 0:
		cs.many[c.many-1] = append(cs.many[c.many-1], m)
	case c.rooms == 0:
		c.one, c.rooms = [1]membership{m}, 1
	default:
		list := []membership{c.one[0], m}
		if n := len(cs.unused); n > 0 {
			c.many = cs.unused[n-1]
			cs.unused = cs.unused[:n-1]
			cs.many[c.many-1] = list
		} else {
			cs.many = append(cs.many, list)
			c.many = uint32(len(cs.many))
		}
	}
}

// memberships returns the connection's memberships. The slice is not a copy. The caller may
// change its elements, but not its length.
func (cs *conns) memberships(c *conn) []membership {
	if c.many != 0 {
		return cs.many[c.many-1]
	}
	return c.one[:c.rooms]
}

// find returns the index of the connection's membership in the audience, or -1.
func (cs *conns) find(c *conn, audience uint32) int {
	for i, m := range cs.memberships(c) {
		if m.audience == audience {
			return i
		}
	}
	return -1
}

// remove removes a membership from its connection.
func (cs *conns) remove(c *conn, i int) {
	list := cs.memberships(c)
	list[i] = list[len(list)-1]
	if c.many == 0 {
		c.rooms = 0
		return
	}
	list = list[:len(list)-1]
	cs.many[c.many-1] = list
	if len(list) == 0 {
		cs.many[c.many-1] = nil
		cs.unused = append(cs.unused, c.many)
		c.many, c.rooms = 0, 0
	}
}

// moved records that the audience's ring has moved a member to another position.
func (cs *conns) moved(slot, audience, pos uint32) {
	c := cs.at(slot)
	cs.memberships(c)[cs.find(c, audience)].pos = pos
}
