package bridge_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// read reads a page of the log and waits for it.
func (g *gateway) read(t *testing.T, q history.Query) (reads.Page, error) {
	t.Helper()
	type result struct {
		page reads.Page
		err  error
	}
	got := make(chan result, 1)
	g.Read(q, func(p reads.Page, err error) { got <- result{p, err} })
	select {
	case r := <-got:
		return r.page, r.err
	case <-time.After(10 * time.Second):
		t.Fatal("a page was not answered")
		return reads.Page{}, nil
	}
}

func overloaded(err error) bool {
	r, ok := errors.AsType[*proto.Refusal](err)
	return ok && r.Code == proto.Overloaded && r.Retry > 0
}

func TestPagesAreCountedUntilTheirUsersReleaseThem(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	memory := limit.NewBudget(64 << 20)
	a := open(t, s, "a", func(c *bridge.Config) { c.Memory = memory })
	room := s.Room("lobby", "e1")
	room.Append(100)
	var pages []reads.Page
	held := int64(0)
	for i := range 3 {
		p, err := a.read(t, history.Query{Room: room.Name, Last: 10 * (i + 1)})
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, p)
		held += int64(p.Bytes())
		eventually(t, "the pages to be counted", func() bool { return memory.Used(limit.Pages) == held })
	}
	for i := range pages {
		held -= int64(pages[i].Bytes())
		pages[i].Release()
		pages[i].Release() // a second call of Release does nothing
		if got := memory.Used(limit.Pages); got != held {
			t.Errorf("%d bytes are counted after %d releases, want %d", got, i+1, held)
		}
	}
}

func TestSharedPageIsCountedOnce(t *testing.T) {
	memory := limit.NewBudget(64 << 20)
	const users = 5
	shared := reads.NewPage(history.Page{Records: make([]proto.Record, 10)}, memory, users)
	want := memory.Used(limit.Pages)
	if want < 1 || want != int64(shared.Bytes()) {
		t.Errorf("%d bytes are counted, want %d", want, shared.Bytes())
	}
	for i := range users {
		if got := memory.Used(limit.Pages); got != want {
			t.Errorf("%d bytes are counted after %d of %d releases, want %d", got, i, users, want)
		}
		page := shared
		page.Release()
	}
	if got := memory.Used(limit.Pages); got != 0 {
		t.Errorf("%d bytes are counted after all releases", got)
	}
}

func TestReadsAreRefusedWhileThereIsNoMemory(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	memory := limit.NewBudget(8 << 20)
	a := open(t, s, "a", func(c *bridge.Config) { c.Memory = memory })
	room := s.Room("lobby", "e1")
	room.Append(10)
	if !memory.Take(limit.Pages, 4<<20) {
		t.Fatal("the test cannot take half of the memory")
	}
	if _, err := a.read(t, history.Query{Room: room.Name}); !overloaded(err) {
		t.Errorf("a read without memory: %v", err)
	}
	memory.Add(limit.Pages, -4<<20)
	p, err := a.read(t, history.Query{Room: room.Name})
	if err != nil || len(p.Records) != 10 {
		t.Errorf("a read with memory: %d records, %v", len(p.Records), err)
	}
	p.Release()
	eventually(t, "the memory to be given back", func() bool { return memory.Used(limit.Pages) == 0 })
}

func TestMessagesAreRefusedWhileThereIsNoMemory(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	memory := limit.NewBudget(1 << 20)
	a := open(t, s, "a", func(c *bridge.Config) { c.Memory = memory })
	o.end(t)
	const n = 20
	replies := make(chan proto.Reply, n)
	for range n {
		m := text(proto.MustRoom("lobby"), "alice", strings.Repeat("x", 50_000))
		m.Patience = 200 * time.Millisecond
		a.Say(m, func(r proto.Reply) { replies <- r })
		if used := memory.Used(limit.Says); used > 512<<10 {
			t.Fatalf("%d bytes of messages wait, want at most half of 1 MiB", used)
		}
	}
	codes := make(map[proto.Code]int)
	for range n {
		codes[(<-replies).Refusal.Code]++
	}
	if codes[proto.Overloaded] == 0 || memory.Used(limit.Says) != 0 {
		t.Errorf("refusals %v, %d bytes are still counted", codes, memory.Used(limit.Says))
	}
}

func TestRoomsBeyondTheLimitAreRefused(t *testing.T) {
	for name, change := range map[string]func(*bridge.Config){
		"by number": func(c *bridge.Config) { c.Follow.MaxRooms = 3 },
		"by memory": func(c *bridge.Config) {
			c.Memory = limit.NewBudget(16 << 20)
			c.Memory.Add(limit.Rooms, 8<<20-3*(5<<10)) // leaves memory for three rooms
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := historytest.Start(t, 1000)
			own(t, s)
			a := open(t, s, "a", func(c *bridge.Config) { c.Follow.Linger, c.Follow.Feeds = time.Hour, 1; change(c) })
			follow := func(room string) error {
				got := make(chan error, 1)
				a.Follow(proto.MustRoom(room), a, func(_ history.Head, err error) { got <- err })
				return <-got
			}
			for _, room := range []string{"one", "two.of.many", "three", "one"} {
				if err := follow(room); err != nil {
					t.Fatalf("%s: %v", room, err)
				}
			}
			if err := follow("four"); !overloaded(err) {
				t.Errorf("a room too many: %v", err)
			}
			a.Unfollow(proto.MustRoom("two.of.many"), a)
			if err := follow("four"); err != nil {
				t.Errorf("a room instead of an empty one: %v", err)
			}
			if err := follow("five"); !overloaded(err) {
				t.Errorf("another room too many: %v", err)
			}
		})
	}
}

func TestSignalsAreDroppedWhileThereIsNoMemory(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	memory := limit.NewBudget(8 << 20)
	a := open(t, s, "a", func(c *bridge.Config) { c.Memory = memory })
	room := proto.MustRoom("lobby")
	joined := make(chan error, 1)
	a.Follow(room, a, func(_ history.Head, err error) { joined <- err })
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	memory.Add(limit.Says, 4<<20)
	a.Signal(room, []byte(`{"let":"go"}`), "")
	memory.Add(limit.Says, -4<<20)
	a.Signal(room, []byte(`{"room":"lobby"}`), "")
	a.seesThese(t, room, `{"room":"lobby"}`)
	eventually(t, "the memory to be given back", func() bool { return memory.Used(limit.Says) == 0 })
}
