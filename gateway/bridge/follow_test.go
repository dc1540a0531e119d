package bridge_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/gateway/bridge"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/natstest"
	"roomcast/proto/seal"
)

// byHand makes a stream that does not republish records. The test publishes them instead, with
// faults.
func byHand(c *jetstream.StreamConfig) { c.RePublish = nil }

// republished returns the message with which the stream would republish the newest record.
func republished(r *historytest.Room, rec proto.Record) *nats.Msg {
	m := nats.NewMsg(r.Name.OutSubject())
	m.Header.Set(proto.HeaderRecord, rec.Header())
	m.Header.Set("Nats-Subject", r.Name.LogSubject())
	m.Data = rec.Payload
	return m
}

// commit appends n records to the log. It returns the messages with which the stream would
// republish them.
func commit(r *historytest.Room, n int) (out []*nats.Msg) {
	for range n {
		r.Append(1)
		out = append(out, republished(r, r.Last))
	}
	return out
}

func republish(t *testing.T, nc *nats.Conn, msgs []*nats.Msg) {
	t.Helper()
	for _, m := range msgs {
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// NATS may lose, repeat and reorder the republished records.
func TestFollowersSeeEachRecordOnceInOrder(t *testing.T) {
	s := historytest.Start(t, 10_000, byHand)
	own(t, s).end(t)
	a, nc := open(t, s, "a"), s.Conn()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 12 {
		room := s.Room(fmt.Sprintf("room%d", round), "e1")
		before := rnd.IntN(100)
		commit(room, before)
		if head := a.follow(t, room.Name); head.Seq != uint64(before) {
			t.Fatalf("head %d, want %d", head.Seq, before)
		}
		msgs := commit(room, 200)
		switch round % 4 {
		case 0: // the last messages are lost too
			msgs = slices.DeleteFunc(msgs, func(*nats.Msg) bool { return rnd.IntN(3) == 0 })
			msgs = msgs[:len(msgs)/2]
		case 1: // messages are repeated
			msgs = append(msgs, msgs[50:150]...)
			msgs = slices.Insert(msgs, 20, msgs[:20]...)
		case 2: // messages are reordered
			rnd.Shuffle(len(msgs), func(i, j int) { msgs[i], msgs[j] = msgs[j], msgs[i] })
		case 3: // all messages are lost
			msgs = nil
		}
		republish(t, nc, msgs)
		a.wantEvents(t, room.Name, uint64(before)+1, uint64(before)+200)
	}
}

// If a loop takes the deliveries too slowly, some are dropped. The feed must read them from the
// log.
func TestSlowLoopMissesNothing(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a := open(t, s, "a", func(c *bridge.Config) { c.Follow.Buffer = 10 })
	room := s.Room("lobby", "e1")
	a.follow(t, room.Name)
	a.mu.Lock() // the loop takes no deliveries
	room.Append(200)
	a.mu.Unlock()
	a.wantEvents(t, room.Name, 1, 200)
	if metric(t, a, "drops_total") == 0 {
		t.Error("no record was dropped, so the test shows nothing")
	}
}

// When the stream gets a new leader, some records may not be republished by any leader. So the
// gateway compares all its rooms with the log at once.
func TestNewLeaderCausesAComparisonOfAllRooms(t *testing.T) {
	s := historytest.Start(t, 1000, byHand)
	own(t, s).end(t)
	a, nc := open(t, s, "a"), s.Conn()
	var rooms []*historytest.Room
	for i := range 300 {
		rooms = append(rooms, s.Room(fmt.Sprint("room", i), "e1"))
		a.follow(t, rooms[i].Name)
	}
	for _, r := range rooms {
		r.Append(2)
	}
	begun := time.Now()
	if err := nc.Publish("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.ROOMS", nil); err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		a.wantEvents(t, r.Name, 1, 2)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestTrimmedHoleIsAnnounced(t *testing.T) {
	s := historytest.Start(t, 10, byHand)
	own(t, s).end(t)
	a, nc := open(t, s, "a"), s.Conn()
	room := s.Room("lobby", "e1")
	republish(t, nc, commit(room, 5))
	a.follow(t, room.Name)
	republish(t, nc, commit(room, 50)[48:])
	want := []string{"gap 6-45 trimmed"}
	for seq := 46; seq <= 55; seq++ {
		want = append(want, fmt.Sprint(seq))
	}
	a.seesThese(t, room.Name, want...)
}

// Followers that come after the close must find the room closed, on this gateway and on another
// one.
func TestLaterFollowersFindTheRoomClosed(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a, b := open(t, s, "a"), open(t, s, "b")
	room := s.Room("lobby", "e1")
	a.follow(t, room.Name)
	room.Append(2)
	room.Act(proto.Closed, "done for today")
	a.wantEvents(t, room.Name, 1, 3)
	second := &gateway{Bridge: a.Bridge}
	want := history.Head{Seq: 3, Epoch: "e1", At: room.Last.State.At, Stream: room.Last.Stream, Closed: true, Why: "done for today"}
	for name, g := range map[string]*gateway{"a second loop": second, "another gateway": b} {
		got := g.follow(t, room.Name)
		if got.Act != 3 || got.Limits == nil || got.Limits.Seq != 3 {
			t.Errorf("%s: head %+v, want one that includes the act numbered 3", name, got)
		}
		if got.Act, got.Limits = 0, nil; got != want {
			t.Errorf("%s: head %+v, want %+v", name, got, want)
		}
	}
	room.Act(proto.Reopened, "")
	second.wantEvents(t, room.Name, 4, 4)
	third := &gateway{Bridge: a.Bridge}
	got := third.follow(t, room.Name)
	got.Act, got.Limits = 0, nil
	if want := (history.Head{Seq: 4, Epoch: "e1", At: room.Last.State.At, Stream: room.Last.Stream}); got != want {
		t.Errorf("reopened: head %+v, want %+v", got, want)
	}
}

func TestAnotherEpochIsAnnounced(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a := open(t, s, "a")
	old := s.Room("lobby", "e1")
	old.Append(3)
	a.follow(t, old.Name)
	natstest.Purge(t, s.Conn(), proto.StreamName, ">")
	s.Room("lobby", "e2").Append(4)
	a.seesThese(t, old.Name, "gap 4-0 reset", "1", "2", "3", "4")
}

// After the stream has lost its end, new records get seqs that members have already received.
func TestLossOfTheLogsEndIsAnnounced(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a := open(t, s, "a")
	room := s.Room("lobby", "e1")
	a.follow(t, room.Name)
	room.Append(5)
	a.wantEvents(t, room.Name, 1, 5)
	stream, err := s.JS.Stream(t.Context(), proto.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(4); seq <= 5; seq++ {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	a.seesThese(t, room.Name, "1", "2", "3", "4", "5", "gap 6-0 reset", "1", "2", "3")
}

func TestRestartWhileMessagesFlow(t *testing.T) {
	s := historytest.Start(t, 10_000)
	own(t, s)
	a, b := open(t, s, "a"), open(t, s, "b")
	lobby := proto.MustRoom("lobby")
	a.follow(t, lobby)
	b.follow(t, lobby)
	const n = 300
	var wg sync.WaitGroup
	for sender, g := range []*gateway{a, b} {
		wg.Go(func() {
			for i := range n / 2 {
				m := text(lobby, fmt.Sprint("sender", sender), fmt.Sprint(i))
				m.Patience = time.Minute
				if r := g.say(m); r.Refusal != nil {
					t.Errorf("message %d: %v", i, r.Refusal)
				}
				if sender == 0 && i%50 == 25 {
					s.Stop()
					s.Restart()
				}
			}
		})
	}
	wg.Wait()
	a.wantEvents(t, lobby, 1, n)
	b.wantEvents(t, lobby, 1, n)
}

func TestNATSAway(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	a := open(t, s, "a")
	lobby := proto.MustRoom("lobby")
	a.follow(t, lobby)
	s.Stop()
	eventually(t, "the gateway to notice", func() bool { return a.Ready() != nil })
	m := text(lobby, "alice", "hi")
	m.Patience = 100 * time.Millisecond
	if r := a.say(m); r.Refusal == nil || r.Refusal.Code != proto.Unavailable || r.Refusal.Retry <= 0 {
		t.Errorf("say while NATS is away: %+v", r)
	}
	held := make(chan proto.Reply, 1)
	a.Say(text(lobby, "alice", "hold me"), func(r proto.Reply) { held <- r })
	s.Restart()
	if r := <-held; r.Seq != 1 {
		t.Errorf("a message that was held: %+v", r)
	}
	a.wantEvents(t, lobby, 1, 1)
	eventually(t, "the gateway to be ready", func() bool { return a.Ready() == nil })
}

// roomSubscriptions returns the number of subscriptions to messages about rooms.
func roomSubscriptions(t *testing.T, s *historytest.Server) int {
	t.Helper()
	return s.Subscriptions(t, "room.out.", "room.eph.")
}

func TestEmptyRoomsLingerAndLargePartitionsShareASubscription(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s).end(t)
	a := open(t, s, "a", func(c *bridge.Config) { c.Follow.Linger = 50 * time.Millisecond })
	subs := func() int { return roomSubscriptions(t, s) }
	lobby := s.Room("lobby", "e1")
	a.follow(t, lobby.Name)
	if got := subs(); got != 2 {
		t.Errorf("%d subscriptions for a room, want 2", got)
	}
	a.Unfollow(lobby.Name, &a.follower)
	eventually(t, "the empty room to be let go", func() bool { return subs() == 0 })

	var rooms []proto.Room
	for i := 0; len(rooms) < 1100; i++ {
		if r := proto.MustRoom(fmt.Sprint("r", i)); r.Partition() == lobby.Name.Partition() {
			rooms = append(rooms, r)
			a.follow(t, r)
		}
	}
	eventually(t, "one subscription for them all", func() bool { return subs() == 2 })
	for _, i := range []int{0, 500, 1099} {
		w := s.Room(rooms[i].String(), "e1")
		w.Append(3)
		a.wantEvents(t, rooms[i], 1, 3)
	}
	for _, r := range rooms[10:] {
		a.Unfollow(r, &a.follower)
	}
	eventually(t, "each room to have its own again", func() bool { return subs() == 20 })
	w := s.Room(rooms[5].String(), "e1")
	w.Append(3)
	a.wantEvents(t, rooms[5], 1, 3)
}

func TestSealedEndToEnd(t *testing.T) {
	keys, err := seal.New(bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	s := historytest.Start(t, 1000)
	s.Keys = keys
	own(t, s)
	spy, err := s.Conn().SubscribeSync("room.>")
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(c *bridge.Config) { c.Keys = keys }
	a, b := open(t, s, "a", sealed), open(t, s, "b", sealed)
	lobby := proto.MustRoom("lobby")
	a.follow(t, lobby)
	b.follow(t, lobby)
	if r := a.say(text(lobby, "alice", "a secret")); r.Seq != 1 {
		t.Fatalf("reply: %+v", r)
	}
	a.Signal(lobby, []byte(`{"room":"lobby","signal":"a secret"}`), "")
	b.seesThese(t, lobby, "1", `{"room":"lobby","signal":"a secret"}`)
	b.mu.Lock()
	if got := string(b.got[0].JSON); !strings.Contains(got, "a secret") {
		t.Errorf("delivered %s", got)
	}
	b.mu.Unlock()
	seen := 0
	for m, err := spy.NextMsg(time.Second); err == nil && seen < 4; m, err = spy.NextMsg(100 * time.Millisecond) {
		if strings.HasPrefix(m.Subject, "room.gw.") {
			continue
		}
		seen++
		if bytes.Contains(m.Data, []byte("secret")) {
			t.Errorf("%s can be read: %s", m.Subject, m.Data)
		}
	}
	if seen < 4 {
		t.Errorf("the spy saw %d messages, want 4: in, log, out, eph", seen)
	}

	// A gateway without the key is not ready. The error of Ready says why.
	c := begin(t, s, "c")
	eventually(t, "the gateway without the key to say so", func() bool { return errors.Is(c.Ready(), seal.ErrNoKey) })
}

// The reply subject of a read request may be the subject of another room, because NATS does not
// check it.
func TestRecordOfAnotherRoomIsNotDelivered(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	a := open(t, s, "a")
	lobby, attic := proto.MustRoom("lobby"), proto.MustRoom("attic")
	a.follow(t, attic)
	if r := a.say(text(lobby, "alice", "only for the lobby")); r.Seq != 1 {
		t.Fatalf("got %+v, want seq 1", r)
	}
	nc := s.Conn()
	heard, err := nc.SubscribeSync(attic.OutSubject())
	if err == nil {
		err = nc.PublishRequest("$JS.API.DIRECT.GET."+proto.StreamName, attic.OutSubject(), []byte(`{"last_by_subj":"`+lobby.LogSubject()+`"}`))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := heard.NextMsg(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if r := a.say(text(attic, "bob", "hi")); r.Seq != 1 {
		t.Fatalf("got %+v, want seq 1", r)
	}
	a.wantEvents(t, attic, 1, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := string(a.got[len(a.got)-1].JSON); !strings.Contains(got, `"text":"hi"`) {
		t.Errorf("got %s, want what bob said", got)
	}
}

// late delays the answers of a NATS server as long as the test has locked shut.
type late struct {
	net.Conn
	shut *sync.Mutex
	here chan struct{} // receives a value when an answer arrives while shut is locked
}

func (c late) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.shut.TryLock() {
		select {
		case c.here <- struct{}{}:
		default:
		}
		c.shut.Lock()
	}
	c.shut.Unlock()
	return n, err
}

// A read of a room's head began for a follower that has left since. A second follower comes
// before the read is answered. It must receive later records at once, not only after the next
// comparison with the log.
func TestFollowerTakesOverTheReadOfAnother(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	var shut sync.Mutex
	here := make(chan struct{}, 1)
	a := open(t, s, "a", func(c *bridge.Config) {
		c.Follow.Feeds = 1 // one feed handles all messages in the order of their arrival
		c.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			if strings.HasSuffix(name, "/read") {
				opts = append(opts, nats.SetCustomDialer(dialer(func(network, addr string) (net.Conn, error) {
					conn, err := net.Dial(network, addr)
					return late{conn, &shut, here}, err
				})))
			}
			return s.Dial(name, opts...)
		}
	})
	b := open(t, s, "b")
	room, other := proto.MustRoom("lobby"), proto.MustRoom("attic")
	a.follow(t, other)
	b.say(text(room, "bob", "before"))

	shut.Lock()
	answer := sync.OnceFunc(shut.Unlock)
	defer answer()
	gone := make(chan error, 1)
	a.Follow(room, a, func(_ history.Head, err error) { gone <- err })
	<-here
	a.Unfollow(room, a)
	if err := <-gone; err == nil {
		t.Fatal("the first follower was told that it follows")
	}
	b.say(text(room, "bob", "in between"))
	b.say(text(other, "bob", "behind it"))
	a.wantEvents(t, other, 1, 1)
	head := make(chan history.Head, 1)
	a.Follow(room, a, func(h history.Head, _ error) { head <- h })
	answer()
	a.wantEvents(t, room, (<-head).Seq+1, 2)
	if n := metric(t, a, "repairs_total"); n != 0 {
		t.Errorf("got %v repairs, want none", n)
	}
}

type dialer func(network, addr string) (net.Conn, error)

func (d dialer) Dial(network, addr string) (net.Conn, error) { return d(network, addr) }
