package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// enter makes somebody a member at the gateway.
func (g *gateway) enter(room proto.Room, id string) {
	who := proto.Identity{ID: id}
	g.mu.Lock()
	if g.present == nil {
		g.present = make(map[proto.Room][]proto.Identity)
	}
	g.present[room] = append(g.present[room], who)
	g.mu.Unlock()
	g.Joined(room, who)
}

func (g *gateway) members(t *testing.T, room proto.Room) (int, []string) {
	t.Helper()
	type result struct {
		count int
		list  []proto.Identity
		err   error
	}
	done := make(chan result, 1)
	g.Members(room, func(n int, list []proto.Identity, err error) { done <- result{n, list, err} })
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	var ids []string
	for _, who := range got.list {
		ids = append(ids, who.ID)
	}
	slices.Sort(ids)
	return got.count, ids
}

// said reports whether the gateway's follower was told a frame that has all these parts.
func (g *gateway) said(room proto.Room, parts ...string) func() bool {
	return func() bool {
		return slices.ContainsFunc(g.events(room), func(e string) bool {
			return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(e, p) })
		})
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a, b, c := open(t, s, "a"), open(t, s, "b"), open(t, s, "c")
	lobby := proto.MustRoom("lobby")
	if n, _ := a.members(t, lobby); n != 0 {
		t.Errorf("%d members of an empty room", n)
	}
	for _, g := range []*gateway{a, b, c} {
		g.follow(t, lobby)
	}
	a.enter(lobby, "alice")
	eventually(t, "alice to join", b.said(lobby, `"joined":{"id":"alice","count":1}`))
	b.enter(lobby, "bob")
	eventually(t, "bob to join", a.said(lobby, `"joined":{"id":"bob"`))
	c.enter(lobby, "carol")
	eventually(t, "the count to be right", a.said(lobby, `"joined":{`, `"count":3}`))
	for _, g := range []*gateway{a, b, c} {
		if n, ids := g.members(t, lobby); n != 3 || fmt.Sprint(ids) != "[alice bob carol]" {
			t.Errorf("members: %d, %v", n, ids)
		}
	}
	b.Left(lobby, proto.Identity{ID: "bob"}, proto.LeftClient)
	eventually(t, "bob to leave", c.said(lobby, `"left":{"id":"bob","reason":"client","count":2}`))

	c.die()
	begun := time.Now()
	eventually(t, "carol to be lost", a.said(lobby, `"left":{"reason":"lost","count":1}`))
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if n, _ := a.members(t, lobby); n != 2 {
		t.Errorf("%d members, want 2: alice, and bob whom the loop still lists", n)
	}
}

func TestPresenceIsThrottled(t *testing.T) {
	t.Parallel()
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a := open(t, s, "a")
	lobby := proto.MustRoom("lobby")
	a.follow(t, lobby)
	const n = 300
	for i := range n {
		a.enter(lobby, fmt.Sprint("member", i))
	}
	eventually(t, "the count to be told", a.said(lobby, `"joined":{"count":300}`))
	if got := len(a.events(lobby)); got > 20 {
		t.Errorf("%d frames for %d joins", got, n)
	}
	count, list := a.members(t, lobby)
	if count != n || len(list) != proto.MaxListed {
		t.Errorf("%d members, %d of them listed; want %d and %d", count, len(list), n, proto.MaxListed)
	}
}

func TestReadsAndRooms(t *testing.T) {
	t.Parallel()
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a := open(t, s, "a")
	room := s.Room("lobby", "e1")
	room.Append(100)
	s.Room("attic", "e1").Append(2)
	const n = 50
	pages := make(chan reads.Page, n)
	for range n {
		a.Read(history.Query{Room: room.Name, Last: 10}, func(p reads.Page, err error) {
			if err != nil {
				t.Error(err)
			}
			pages <- p
		})
	}
	for range n {
		if p := <-pages; len(p.Records) != 10 || p.Records[0].Seq != 91 {
			t.Errorf("page: %+v", p)
		}
	}
	rooms := make(chan string, 1)
	a.Rooms(func(list []reads.Room, err error) {
		var out []string
		for _, r := range list {
			out = append(out, fmt.Sprintf("%s:%d", r.Name, r.Messages))
		}
		slices.Sort(out)
		rooms <- fmt.Sprint(out, err)
	})
	if got, want := <-rooms, "[attic:2 lobby:100] <nil>"; got != want {
		t.Errorf("rooms %s, want %s", got, want)
	}
}
