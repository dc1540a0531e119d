package events

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"roomcast/proto"
)

// host acts as a gateway with people in one room. It gives each change a mark (run and version), as
// gateways do.
type host struct {
	id     string
	people map[string]proto.Identity
	mark   proto.PresenceMark
}

// change lets a person join or leave, and returns the change that the gateway sends to the others.
func (h *host) change(id string) *proto.PresenceChange {
	d := proto.PresenceDelta{Identity: proto.Identity{ID: id}}
	if _, here := h.people[id]; here {
		d.Left = proto.LeftClient
		delete(h.people, id)
	} else {
		h.people[id] = d.Identity
	}
	h.mark.Version++
	return &proto.PresenceChange{Gateway: h.id, Mark: h.mark, Deltas: []proto.PresenceDelta{d}}
}

// shares returns the list of the gateway's people, in parts of two people.
func (h *host) shares() (parts []*proto.PresenceShare) {
	for some := range slices.Chunk(slices.Sorted(maps.Keys(h.people)), 2) {
		s := &proto.PresenceShare{Gateway: h.id, Mark: h.mark, Part: len(parts), More: true}
		for _, id := range some {
			s.People = append(s.People, proto.Identity{ID: id})
		}
		parts = append(parts, s)
	}
	if parts == nil {
		parts = []*proto.PresenceShare{{Gateway: h.id, Mark: h.mark}}
	}
	parts[len(parts)-1].More = false
	return parts
}

// The test plays an application that adds up the events. While no change is lost, the application
// always knows the people. If a change is lost, the crowd notices the loss with the gateway's next
// message. The gateway's list then corrects the application. A person on several gateways counts
// once.
func TestEventsAddUpToThePeople(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		now := time.Unix(1_000_000, 0)
		c := newCrowd(now)
		hosts := []*host{}
		for i := range 3 {
			hosts = append(hosts, &host{id: fmt.Sprint("g", i), people: map[string]proto.Identity{}, mark: proto.PresenceMark{Run: 1}})
		}
		known := map[string]bool{} // the people that the application knows
		occupied := false
		hear := func(list []news) {
			t.Helper()
			for _, n := range list {
				switch n.kind {
				case proto.PersonJoined, proto.PersonLeft:
					if known[n.who.ID] == (n.kind == proto.PersonJoined) {
						t.Fatalf("seed %d: %+v changes nothing", seed, n)
					}
					if known[n.who.ID] = n.kind == proto.PersonJoined; !known[n.who.ID] {
						delete(known, n.who.ID)
					}
					if n.count != len(known) || !occupied {
						t.Fatalf("seed %d: %+v, but there are %d, occupied %v", seed, n, len(known), occupied)
					}
				default:
					if occupied == (n.kind == proto.RoomOccupied) {
						t.Fatalf("seed %d: %+v changes nothing", seed, n)
					}
					occupied = !occupied
				}
			}
		}
		check := func() {
			t.Helper()
			want := map[string]bool{}
			for _, h := range hosts {
				for id := range h.people {
					want[id] = true
				}
			}
			var got []string
			for _, who := range c.people() {
				got = append(got, who.ID)
			}
			if !maps.Equal(known, want) || !slices.Equal(got, slices.Sorted(maps.Keys(want))) || occupied != (len(want) > 0) || len(c.count) != len(want) {
				t.Fatalf("seed %d: the application knows %v and the crowd %v, want %v", seed, known, got, want)
			}
		}
		for range 100 {
			h := hosts[rnd.IntN(len(hosts))]
			m := h.change(fmt.Sprint("u", rnd.IntN(6)))
			if rnd.IntN(5) > 0 {
				list, behind := c.change(m, now)
				if hear(list); behind {
					t.Fatalf("seed %d: the crowd wants a list although no change was lost", seed)
				}
				check()
				continue
			}
			// This change is lost. The gateway then repeats its mark without it.
			list, behind := c.change(&proto.PresenceChange{Gateway: h.id, Mark: h.mark}, now)
			if len(list) > 0 || !behind || !c.behind() {
				t.Fatalf("seed %d: the crowd does not notice a lost change", seed)
			}
			for _, s := range h.shares() {
				hear(c.shared(s, now))
			}
			if c.behind() {
				t.Fatalf("seed %d: the list of the gateway does not correct the crowd", seed)
			}
			check()
		}
	}
}

// A list with a missing part changes nothing. An old list changes nothing either.
func TestIncompleteListChangesNothing(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	h := &host{id: "g", people: map[string]proto.Identity{}, mark: proto.PresenceMark{Run: 1}}
	c := newCrowd(now)
	old := h.shares()
	for i := range 5 {
		h.change(fmt.Sprint("u", i))
	}
	parts := h.shares()
	for _, i := range []int{1, 2, 0, 2} {
		if list := c.shared(parts[i], now); len(list) > 0 {
			t.Errorf("part %d: got %v", i, list)
		}
	}
	for _, s := range h.shares() {
		c.shared(s, now)
	}
	if len(c.count) != 5 {
		t.Errorf("got %d people, want 5", len(c.count))
	}
	if list := c.shared(old[0], now); len(list) > 0 || len(c.count) != 5 {
		t.Errorf("an old list: got %v and %d people", list, len(c.count))
	}
}

// A gateway that restarts numbers its changes from the beginning again.
func TestRestartedGatewayHasNoEarlierPeople(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	c := newCrowd(now)
	h := &host{id: "g", people: map[string]proto.Identity{}, mark: proto.PresenceMark{Run: 1}}
	c.change(h.change("ann"), now)
	again := &host{id: "g", people: map[string]proto.Identity{}, mark: proto.PresenceMark{Run: 2}}
	list, behind := c.change(again.change("bob"), now)
	if behind || len(c.count) != 1 || len(list) != 4 {
		t.Errorf("got %v, behind %v, %d people", list, behind, len(c.count))
	}
}

// The list has at most [proto.MaxListed] people, but the count is exact.
func TestPresentListsSomePeople(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	c := newCrowd(now)
	h := &host{id: "g", people: map[string]proto.Identity{}, mark: proto.PresenceMark{Run: 1}}
	for i := range proto.MaxListed + 5 {
		c.change(h.change(fmt.Sprintf("u%03d", i)), now)
	}
	people := c.people()
	body := string(proto.AppendPresent(nil, proto.MustRoom("lobby"), now, len(c.count), people[:2]))
	if want := `{"room":"lobby","at":"1970-01-12T13:46:40.000Z","present":{"count":205,"members":[{"id":"u000"},{"id":"u001"}],"more":true}}`; len(people) != proto.MaxListed || body != want {
		t.Errorf("got %d people and %s, want %d and %s", len(people), body, proto.MaxListed, want)
	}
}
