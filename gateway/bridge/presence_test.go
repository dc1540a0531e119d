package bridge_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/bridge"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// enter makes the person id a member of the room on this gateway.
func (g *gateway) enter(room proto.Room, id string) { g.Joined(room, proto.Identity{ID: id}) }

// exit makes the person leave the room.
func (g *gateway) exit(room proto.Room, id string) {
	g.Left(room, proto.Identity{ID: id}, proto.LeftClient)
}

// awaitCount waits until the newest join or leave that the gateway's members have received contains
// this count. It returns how long that took.
func (g *gateway) awaitCount(t *testing.T, room proto.Room, count int) time.Duration {
	t.Helper()
	begun := time.Now()
	want := fmt.Sprintf(`"count":%d}`, count)
	eventually(t, fmt.Sprintf("the count %d", count), func() bool {
		events := g.events(room)
		return len(events) > 0 && strings.Contains(events[len(events)-1], want)
	})
	return time.Since(begun)
}

// members returns the number of people in the room, and their ids. If a person has n > 1
// sessions, *n follows the id.
func (g *gateway) members(t *testing.T, room proto.Room) (int, []string) {
	t.Helper()
	type result struct {
		count int
		list  []proto.Member
		err   error
	}
	done := make(chan result, 1)
	g.Members(room, func(n int, list []proto.Member, err error) { done <- result{n, list, err} })
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	var ids []string
	for _, who := range got.list {
		if who.Sessions > 1 {
			who.ID += fmt.Sprint("*", who.Sessions)
		}
		ids = append(ids, who.ID)
	}
	slices.Sort(ids)
	return got.count, ids
}

// said returns a function that reports whether the follower has received a frame that contains
// all parts.
func (g *gateway) said(room proto.Room, parts ...string) func() bool {
	return func() bool {
		return slices.ContainsFunc(g.events(room), func(e string) bool {
			return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(e, p) })
		})
	}
}

func TestJoinsAndLeavesReachAllGateways(t *testing.T) {
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
	eventually(t, "alice to join", a.said(lobby, `"joined":{"id":"alice","count":1}`))
	b.enter(lobby, "bob")
	eventually(t, "bob to join", a.said(lobby, `"joined":{"id":"bob","count":2}`))
	c.enter(lobby, "carol")
	c.enter(lobby, "bob")
	c.enter(lobby, "bob")
	for _, g := range []*gateway{a, b, c} {
		g.awaitCount(t, lobby, 3)
		if n, ids := g.members(t, lobby); n != 3 || fmt.Sprint(ids) != "[alice bob*3 carol]" {
			t.Errorf("members: %d, %v", n, ids)
		}
	}
	b.exit(lobby, "bob")
	c.exit(lobby, "bob")
	c.exit(lobby, "bob")
	eventually(t, "bob to leave", a.said(lobby, `"left":{"id":"bob","reason":"client","count":2}`))
	if n, ids := b.members(t, lobby); n != 2 || fmt.Sprint(ids) != "[alice carol]" {
		t.Errorf("members: %d, %v", n, ids)
	}
}

// Limits for a machine that is busy with other work. The promises are 1 and 10 seconds; the tests of
// the package presence check them with a simulated clock.
const (
	prompt     = 10 * time.Second
	afterDeath = 30 * time.Second
)

func TestSimultaneousJoinsAreCountedEverywhere(t *testing.T) {
	t.Parallel()
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	gateways := []*gateway{open(t, s, "a"), open(t, s, "b"), open(t, s, "c")}
	for round := range 20 {
		room := proto.MustRoom(fmt.Sprint("room", round))
		for _, g := range gateways {
			g.follow(t, room)
		}
		for i, g := range gateways {
			g.enter(room, fmt.Sprint("u", i))
		}
		begun := time.Now()
		for _, g := range gateways {
			g.awaitCount(t, room, len(gateways))
		}
		if took := time.Since(begun); took > prompt {
			t.Errorf("room %d: it took %v", round, took)
		}
	}
}

// cutter breaks the connections of one gateway, and refuses new ones for a while.
type cutter struct {
	mu    sync.Mutex
	conns []net.Conn
	cut   bool
}

func (c *cutter) Dial(network, addr string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errors.New("the network is cut")
	}
	conn, err := net.Dial(network, addr)
	c.conns = append(c.conns, conn)
	return conn, err
}

func (c *cutter) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for _, conn := range c.conns {
		if cut {
			conn.Close()
		}
	}
	c.conns = nil
}

// After an interruption, the members of a gateway receive the joins and leaves that happened
// during the interruption. So do the members of the other gateways.
func TestMissedJoinsAndLeavesAreSentLater(t *testing.T) {
	t.Parallel()
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	var network cutter
	a, b := open(t, s, "a"), open(t, s, "b", func(c *bridge.Config) {
		c.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			return s.Dial(name, append(opts, nats.SetCustomDialer(&network))...)
		}
	})
	lobby := proto.MustRoom("lobby")
	for i, g := range []*gateway{a, b} {
		g.follow(t, lobby)
		g.enter(lobby, fmt.Sprint("first", i))
		g.enter(lobby, fmt.Sprint("second", i))
	}
	a.awaitCount(t, lobby, 4)
	b.awaitCount(t, lobby, 4)
	network.set(true)
	a.enter(lobby, "carol")
	a.exit(lobby, "second0")
	b.enter(lobby, "dave")
	b.exit(lobby, "second1")
	time.Sleep(2 * time.Second) // the length of the interruption
	network.set(false)
	eventually(t, "b to be connected", func() bool { return b.Ready() == nil })
	begun := time.Now()
	eventually(t, "b to tell of carol", b.said(lobby, `"joined":{"id":"carol"`))
	eventually(t, "b to tell of second0", b.said(lobby, `"left":{"id":"second0"`))
	eventually(t, "a to tell of dave", a.said(lobby, `"joined":{"id":"dave"`))
	eventually(t, "a to tell of second1", a.said(lobby, `"left":{"id":"second1"`))
	if took := time.Since(begun); took > prompt {
		t.Errorf("it took %v", took)
	}
	for _, g := range []*gateway{a, b} {
		g.awaitCount(t, lobby, 4)
		if n, ids := g.members(t, lobby); n != 4 || fmt.Sprint(ids) != "[carol dave first0 first1]" {
			t.Errorf("members: %d, %v", n, ids)
		}
	}
}

func TestMembersOfADeadGatewayLeave(t *testing.T) {
	t.Parallel()
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a, b, c := open(t, s, "a"), open(t, s, "b"), open(t, s, "c")
	lobby := proto.MustRoom("lobby")
	for i, g := range []*gateway{a, b, c} {
		g.follow(t, lobby)
		g.enter(lobby, fmt.Sprint("u", i))
	}
	a.awaitCount(t, lobby, 3)
	b.awaitCount(t, lobby, 3)
	c.die()
	begun := time.Now()
	for _, g := range []*gateway{a, b} {
		eventually(t, "u2 to be lost", g.said(lobby, `"left":{"id":"u2","reason":"lost","count":2}`))
	}
	if took := time.Since(begun); took > afterDeath {
		t.Errorf("it took %v", took)
	}
	if n, _ := a.members(t, lobby); n != 2 {
		t.Errorf("%d members, want 2", n)
	}
}

// A gateway that starts asks the other gateways for their people. When it stops, its own people
// leave.
func TestMembersOfAStoppedGatewayLeaveAtOnce(t *testing.T) {
	t.Parallel()
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a, b := open(t, s, "a"), open(t, s, "b")
	lobby := proto.MustRoom("lobby")
	a.follow(t, lobby)
	a.enter(lobby, "alice")
	b.follow(t, lobby)
	b.enter(lobby, "bob")
	a.awaitCount(t, lobby, 2)
	begun := time.Now()
	b.stop()
	a.awaitCount(t, lobby, 1)
	if took := time.Since(begun); took > prompt {
		t.Errorf("it took %v", took)
	}
}

func TestJoinsInALargeRoomShareNotices(t *testing.T) {
	t.Parallel()
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a, b := open(t, s, "a"), open(t, s, "b")
	lobby := proto.MustRoom("lobby")
	a.follow(t, lobby)
	b.follow(t, lobby)
	const n = 300
	for i := range n {
		a.enter(lobby, fmt.Sprint("member", i))
	}
	b.enter(lobby, "bob")
	for _, g := range []*gateway{a, b} {
		g.awaitCount(t, lobby, n+1)
		if got := len(g.events(lobby)); got > 20 {
			t.Errorf("%d frames for %d joins", got, n)
		}
		count, list := g.members(t, lobby)
		if count != n+1 || len(list) != proto.MaxListed {
			t.Errorf("%d members, %d of them listed; want %d and %d", count, len(list), n+1, proto.MaxListed)
		}
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
	a.Rooms(func(list map[proto.Room]uint64, err error) {
		var out []string
		for room, n := range list {
			out = append(out, fmt.Sprintf("%s:%d", room, n))
		}
		slices.Sort(out)
		rooms <- fmt.Sprint(out, err)
	})
	if got, want := <-rooms, "[attic:2 lobby:100] <nil>"; got != want {
		t.Errorf("rooms %s, want %s", got, want)
	}
}
