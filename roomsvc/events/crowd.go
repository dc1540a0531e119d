package events

import (
	"maps"
	"slices"
	"time"

	"roomcast/proto"
)

// crowd is the people of one room on all gateways. It does no I/O, and belongs to one goroutine.
type crowd struct {
	gateways map[string]*share
	count    map[string]int // number of gateways on which a person is in the room, by the person's id

	// settle is set while the gateways are asked who is in the room. It is the time by which all
	// gateways should have answered. Until then, applications receive no events about the room.
	// Zero = the gateways are not asked. The field occupied is true if the last events may have
	// told applications that somebody is in the room.
	settle   time.Time
	occupied bool
	emptied  time.Time // when the last person left; zero = somebody is in the room
}

// share is the people of the room on one gateway, as far as they are known.
type share struct {
	people   map[string]proto.Identity
	mark     proto.PresenceMark   // the gateway's mark for this list of people
	behind   bool                 // an earlier change of the gateway has not arrived
	incoming *proto.PresenceShare // the parts of a new list that have arrived; nil = no part has arrived
}

// news is one event about people, for applications.
type news struct {
	kind   proto.Occurrence
	who    proto.Identity
	reason proto.LeaveReason
	count  int
}

func newCrowd(now time.Time) *crowd {
	return &crowd{gateways: make(map[string]*share), count: make(map[string]int), emptied: now}
}

func (c *crowd) of(gateway string) *share {
	s := c.gateways[gateway]
	if s == nil {
		s = &share{people: make(map[string]proto.Identity)}
		c.gateways[gateway] = s
	}
	return s
}

// change applies a gateway's change and returns the resulting events. The result behind is true if
// an earlier change of that gateway has not arrived. Then the caller must ask for the whole list.
func (c *crowd) change(m *proto.PresenceChange, now time.Time) (list []news, behind bool) {
	s := c.of(m.Gateway)
	first := m.Mark.Version == 1 && s.mark.Run < m.Mark.Run // the room was empty on that gateway
	next := m.Mark.Run == s.mark.Run && m.Mark.Version == s.mark.Version+1
	if len(m.Deltas) > 0 && (first || next) {
		if first {
			list = c.replace(s, nil, now)
		}
		for _, d := range m.Deltas {
			if d.Left == "" {
				list = c.join(list, s, d.Identity)
			} else {
				list = c.leave(list, s, d.ID, d.Left, now)
			}
		}
		s.mark, s.behind = m.Mark, false
	} else if m.Mark.Version > 0 && s.mark.Before(m.Mark) {
		s.behind = true
	}
	return list, s.behind
}

// shared applies one part of a gateway's list of people. After the last part it returns the
// resulting events.
func (c *crowd) shared(m *proto.PresenceShare, now time.Time) (list []news) {
	s := c.of(m.Gateway)
	switch in := s.incoming; {
	case m.Part == 0:
		s.incoming = m
	case in != nil && in.Mark == m.Mark && in.Part+1 == m.Part:
		in.People, in.Part = append(in.People, m.People...), m.Part
	default:
		return nil // an earlier part is missing
	}
	if m.More {
		return nil
	}
	people := s.incoming.People
	s.incoming = nil
	if !s.mark.Before(m.Mark) {
		return nil // the list is not newer than the known people
	}
	list = c.replace(s, people, now)
	s.mark, s.behind = m.Mark, false
	return list
}

// replace replaces the people in s, and returns the resulting events.
func (c *crowd) replace(s *share, people []proto.Identity, now time.Time) (list []news) {
	stay := make(map[string]bool, len(people))
	for _, who := range people {
		stay[who.ID] = true
		list = c.join(list, s, who)
	}
	for _, id := range slices.Sorted(maps.Keys(s.people)) {
		if !stay[id] {
			list = c.leave(list, s, id, proto.LeftLost, now)
		}
	}
	return list
}

func (c *crowd) join(list []news, s *share, who proto.Identity) []news {
	if _, known := s.people[who.ID]; known {
		s.people[who.ID] = who // the name may be new
		return list
	}
	s.people[who.ID] = who
	if c.count[who.ID]++; c.count[who.ID] > 1 {
		return list
	}
	c.emptied = time.Time{}
	if len(c.count) == 1 {
		list = append(list, news{kind: proto.RoomOccupied, count: 1})
	}
	return append(list, news{kind: proto.PersonJoined, who: who, count: len(c.count)})
}

func (c *crowd) leave(list []news, s *share, id string, reason proto.LeaveReason, now time.Time) []news {
	who, known := s.people[id]
	if !known {
		return list
	}
	delete(s.people, id)
	if c.count[id]--; c.count[id] > 0 {
		return list
	}
	delete(c.count, id)
	list = append(list, news{kind: proto.PersonLeft, who: who, reason: reason, count: len(c.count)})
	if len(c.count) == 0 {
		c.emptied = now
		list = append(list, news{kind: proto.RoomVacated})
	}
	return list
}

// people returns at most [proto.MaxListed] people, sorted by id.
func (c *crowd) people() (list []proto.Identity) {
	ids := slices.Sorted(maps.Keys(c.count))
	for _, id := range ids[:min(len(ids), proto.MaxListed)] {
		for _, s := range c.gateways {
			if who, here := s.people[id]; here {
				list = append(list, who)
				break
			}
		}
	}
	return list
}

// behind reports whether a change of some gateway has not arrived.
func (c *crowd) behind() bool {
	for _, s := range c.gateways {
		if s.behind {
			return true
		}
	}
	return false
}
