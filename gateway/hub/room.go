package hub

import (
	"slices"

	"roomcast/gateway/follow"
	"roomcast/gateway/hub/replay"
	"roomcast/gateway/loop"
	"roomcast/proto"
	"roomcast/proto/history"
)

// room is the state of a room with members on this loop.
type room struct {
	replay.Room
	ready     bool        // the head is known, so deliveries are handled
	began     bool        // a reset was announced; the next event is the first of its epoch and may have any seq
	undone    uint64      // ignore closes up to this seq, because they come from before a reset
	count     int         // number of members in all audiences
	audiences []*audience // one for each format that a member uses

	// joined contains the epoch in which a member joined, if the room has begun another epoch since.
	// It is nil if all members joined in the epoch of the head.
	joined map[memberKey]string
}

// rooms contains the rooms of a loop and handles their deliveries. The loop owns it.
type rooms struct {
	// static
	cfg      Config
	conns    *conns
	fanout   *fanout
	catchups *catchups
	encoder  *encoder
	dispatch *dispatcher
	clock    *clock
	log      Log
	follower follow.Follower
	stats    *Stats

	// owned by the loop
	byName map[proto.Room]*room
	record proto.Record // the event that is being delivered
	second uint32       // the second of the last sweep
}

// audienceOf returns the room's audience with the given format, or nil.
func (rm *room) audienceOf(format Format) *audience {
	for _, a := range rm.audiences {
		if a.format == format {
			return a
		}
	}
	return nil
}

// members calls f for every member, audience by audience.
func (rm *room) members(f func(a *audience, pos int)) {
	for _, a := range rm.audiences {
		for i := range a.Members() {
			f(a, i)
		}
	}
}

// join makes the connection a member of a room. If it is a member already, join only repeats the
// Joined notice.
func (rs *rooms) join(c *conn, name proto.Room, from proto.From) {
	rm := rs.byName[name]
	if rm == nil {
		rm = rs.follow(name)
	}
	a := rm.audienceOf(c.format)
	if a != nil && rs.conns.find(c, a.self) >= 0 {
		if rm.ready {
			rs.dispatch.joined(c.id(), a)
		}
		return
	}
	if a == nil {
		a = rs.fanout.add(rm, c.format)
	}
	rs.conns.add(c, membership{audience: a.self, pos: a.Join(c.id().Slot())})
	rm.count++
	rs.catchups.members[memberKey{c.id(), a.self}] = &catchup{Replay: replay.New(from)}
	if rm.ready {
		rs.dispatch.joined(c.id(), a)
	}
}

// renew is called before the room begins the given epoch. It records the present epoch for each
// member that joined in it. Members that joined an empty room have no epoch to keep.
func (rs *rooms) renew(rm *room, epoch string) {
	if rm.Head.Epoch == "" || epoch == "" || epoch == rm.Head.Epoch {
		return
	}
	rm.members(func(a *audience, pos int) {
		k := memberKey{rs.idOf(a, pos), a.self}
		if _, earlier := rm.joined[k]; earlier {
			return
		}
		if rm.joined == nil {
			rm.joined = make(map[memberKey]string)
		}
		rm.joined[k] = rm.Head.Epoch
	})
}

// find returns the index of the connection's membership in the room, or -1.
func (rs *rooms) find(c *conn, rm *room) int {
	if a := rm.audienceOf(c.format); a != nil {
		return rs.conns.find(c, a.self)
	}
	return -1
}

// follow makes the hub follow a room.
func (rs *rooms) follow(name proto.Room) *room {
	rm := &room{Room: replay.Room{Name: name}}
	rs.byName[name] = rm
	rs.stats.Rooms.Add(1)
	rs.log.Follow(name, rs.follower, func(head history.Head, err error) {
		rs.clock.post(func() { rs.followed(rm, head, err) })
	})
	return rm
}

// followed handles the result of follow, for all members that have joined since.
func (rs *rooms) followed(rm *room, head history.Head, err error) {
	if rs.byName[rm.Name] != rm {
		return // all members had left; since then another member has joined and caused another follow
	}
	rm.ready, rm.Head = err == nil, head
	rm.members(func(a *audience, pos int) {
		if id := rs.idOf(a, pos); err == nil {
			rs.dispatch.joined(id, a)
		} else {
			rs.dispatch.add(id, Notice{Kind: Refused, Room: rm.Name, Err: err})
		}
	})
	if err == nil {
		return
	}
	for rm.count > 0 {
		for _, a := range rm.audiences {
			if len(a.Members()) > 0 {
				c := rs.conns.at(a.Members()[0].Slot)
				rs.leave(c, rs.find(c, rm))
				break
			}
		}
	}
}

func (rs *rooms) idOf(a *audience, pos int) loop.ID { return rs.conns.at(a.Members()[pos].Slot).id() }

// leave ends a membership. Then it deletes the audience and the room, if they have no members.
func (rs *rooms) leave(c *conn, i int) {
	m := rs.conns.memberships(c)[i]
	a := rs.fanout.audiences[m.audience]
	rm := a.room
	rs.catchups.forget(c, m)
	delete(rm.joined, memberKey{c.id(), m.audience})
	rs.conns.remove(c, i)
	a.Leave(m.pos, func(slot, pos uint32) { rs.conns.moved(slot, a.self, pos) })
	rm.count--
	if rm.count == 0 {
		rs.forget(rm)
	} else if len(a.Members()) == 0 {
		rs.dropAudience(a)
	}
}

func (rs *rooms) dropAudience(a *audience) {
	rs.fanout.drop(a)
	a.room.audiences = slices.DeleteFunc(a.room.audiences, func(other *audience) bool { return other == a })
}

// forget stops following a room that has no members.
func (rs *rooms) forget(rm *room) {
	for len(rm.audiences) > 0 {
		rs.dropAudience(rm.audiences[0])
	}
	delete(rs.byName, rm.Name)
	rs.stats.Rooms.Add(-1)
	rs.log.Unfollow(rm.Name, rs.follower)
}
