package bridge_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"roomcast/gateway/auth"
	"roomcast/gateway/bridge"
	"roomcast/gateway/follow"
	"roomcast/gateway/publish"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/natstest"
	"roomcast/proto/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway is a bridge with one follower, which takes the place of an event loop.
type gateway struct {
	*bridge.Bridge
	follower
	stop func() // ends Run and waits for its end
	die  func() // closes the connections for good, as the death of the process would
}

// open starts a gateway and waits until it is ready.
func open(t testing.TB, s *historytest.Server, id string, change ...func(*bridge.Config)) *gateway {
	t.Helper()
	g := begin(t, s, id, change...)
	eventually(t, "gateway "+id+" to be ready", func() bool { return g.Ready() == nil })
	return g
}

func begin(t testing.TB, s *historytest.Server, id string, change ...func(*bridge.Config)) *gateway {
	t.Helper()
	cfg := bridge.DefaultConfig()
	cfg.ID, cfg.Signing = id, new(auth.SigningKeys)
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	var conns []*nats.Conn
	cfg.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
		nc, err := s.Dial(name, opts...)
		conns = append(conns, nc)
		return nc, err
	}
	for _, f := range change {
		f(&cfg)
	}
	b, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{Bridge: b, stop: natstest.Run(t, "bridge "+id, b.Run)}
	g.die = func() {
		for _, nc := range conns {
			nc.Close()
		}
	}
	return g
}

// follower records the deliveries that it receives.
type follower struct {
	mu  sync.Mutex
	got []follow.Delivery
}

func (f *follower) Deliver(d follow.Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, d)
}

// events returns the deliveries of a room. For a numbered delivery it returns the seq as text,
// and for any other delivery the JSON.
func (f *follower) events(room proto.Room) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, d := range f.got {
		switch {
		case d.Room != room:
		case d.Lost != nil:
			out = append(out, "lost "+d.Lost.Message)
		case d.Gap != nil:
			out = append(out, fmt.Sprintf("gap %d-%d %s", d.Gap.From, d.Gap.To, d.Gap.Reason))
		case d.Seq == 0:
			out = append(out, string(d.JSON))
		default:
			out = append(out, fmt.Sprint(d.Seq))
		}
	}
	return out
}

// wantEvents waits until the follower has received exactly the room's events in the given range
// of seqs. The range includes both ends.
func (g *gateway) wantEvents(t *testing.T, room proto.Room, from, to uint64) {
	t.Helper()
	var want []string
	for seq := from; seq <= to; seq++ {
		want = append(want, fmt.Sprint(seq))
	}
	g.seesThese(t, room, want...)
}

func (g *gateway) seesThese(t *testing.T, room proto.Room, want ...string) {
	t.Helper()
	text := strings.Join(want, " ")
	eventually(t, "events "+text, func() bool {
		got := strings.Join(g.events(room), " ")
		if len(got) > len(text) {
			t.Fatalf("got %s, want %s", got, text)
		}
		return got == text
	})
}

var eventually = natstest.Eventually

func (g *gateway) follow(t *testing.T, room proto.Room) history.Head {
	t.Helper()
	type result struct {
		head history.Head
		err  error
	}
	ready := make(chan result, 1)
	g.Follow(room, &g.follower, func(h history.Head, err error) { ready <- result{h, err} })
	got := <-ready
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got.head
}

func (g *gateway) say(s publish.Say) proto.Reply {
	done := make(chan proto.Reply, 1)
	g.Say(s, func(r proto.Reply) { done <- r })
	return <-done
}

func text(room proto.Room, from, body string) publish.Say {
	return publish.Say{Rights: proto.AllRights, Room: room, From: proto.Identity{ID: from}, Content: proto.Content{Kind: proto.Text, Body: []byte(body)}, Patience: 10 * time.Second}
}

// owner is a minimal room service that owns every partition.
type owner struct {
	s    *historytest.Server
	nc   *nats.Conn
	keys *seal.Keys

	mu    sync.Mutex
	sub   *nats.Subscription
	rooms map[string]*historytest.Room
	known map[string]uint64 // the seqs of stored messages, by room, sender and key
}

func own(t testing.TB, s *historytest.Server) *owner {
	t.Helper()
	o := &owner{s: s, nc: s.Conn(), keys: s.Keys, rooms: map[string]*historytest.Room{}, known: map[string]uint64{}}
	keys, err := json.Marshal(proto.Keys{Resume: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.nc.Subscribe(proto.SubjectKeys, func(m *nats.Msg) { _ = m.Respond(keys) }); err != nil {
		t.Fatal(err)
	}
	o.begin(t)
	return o
}

func (o *owner) begin(t testing.TB) {
	t.Helper()
	var err error
	if o.sub, err = o.nc.Subscribe(proto.SubjectAnyRoom, o.take); err == nil {
		err = o.nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// end ends the owner, and waits until the NATS server has noticed.
func (o *owner) end(t testing.TB) {
	t.Helper()
	if err := o.sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if err := o.nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func (o *owner) room(name string) *historytest.Room {
	if o.rooms[name] == nil {
		o.rooms[name] = o.s.Room(name, "e1")
	}
	return o.rooms[name]
}

// take commits one message and answers it. If the commit gets no ack, take does not answer. Then
// the sender must send the message again.
func (o *owner) take(m *nats.Msg) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := strings.TrimPrefix(m.Subject, "room.")
	room := o.room(name)
	key := name + " " + m.Header.Get(proto.HeaderFrom) + " " + m.Header.Get(proto.HeaderKey) + m.Header.Get(proto.HeaderOnce)
	reply := proto.Reply{Seq: o.known[key], Duplicate: true, At: time.Now()}
	if reply.Seq == 0 {
		body := m.Data
		if m.Header.Get(proto.HeaderEnc) != "" {
			var err error
			if body, err = o.keys.Open(room.Name, seal.In, seal.Headers(m.Header), body); err != nil {
				reply = proto.Reply{Refusal: proto.Refuse(proto.BadRequest, "%v", err)}
				_ = m.Respond(reply.AppendJSON(nil))
				return
			}
		}
		next, rec := room.Next(string(body))
		if err := room.Commit(next, rec); err != nil {
			return
		}
		o.known[key] = rec.Seq
		reply = proto.Reply{Seq: rec.Seq, At: rec.State.At}
	}
	_ = m.Respond(reply.AppendJSON(nil))
}

func TestSayAndFollow(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	a, b := open(t, s, "a"), open(t, s, "b")
	lobby, attic := proto.MustRoom("聊天室1"), proto.MustRoom("attic")
	if head := a.follow(t, lobby); head != (history.Head{}) {
		t.Errorf("head of an empty room: %+v", head)
	}
	b.follow(t, attic)
	for i := range 5 {
		if r := a.say(text(lobby, "alice", "hi")); r.Seq != uint64(i+1) || r.Duplicate {
			t.Fatalf("reply %d: %+v", i, r)
		}
	}
	if head := b.follow(t, lobby); head.Seq != 5 || head.Epoch != "e1" {
		t.Errorf("head: %+v", head)
	}
	s5 := text(lobby, "alice", "again")
	s5.Key = "k"
	if first, again := a.say(s5), b.say(s5); first.Seq != 6 || again.Seq != 6 || !again.Duplicate {
		t.Errorf("the same key twice: %+v, %+v", first, again)
	}
	a.wantEvents(t, lobby, 1, 6)
	b.wantEvents(t, lobby, 6, 6)
	b.wantEvents(t, attic, 1, 0)

	signal := proto.AppendSignal(nil, lobby, "typing", proto.Identity{ID: "alice"}, nil)
	a.Signal(lobby, signal, "session1")
	b.seesThese(t, lobby, "6", string(signal))
	b.mu.Lock()
	if origin := b.got[len(b.got)-1].Origin; origin != "session1" {
		t.Errorf("origin %q", origin)
	}
	b.mu.Unlock()
}

func TestOrderIsKeptWhileTheRoomHasNoOwner(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a := open(t, s, "a")
	lobby := proto.MustRoom("lobby")
	a.follow(t, lobby)
	const n = 60
	var wg sync.WaitGroup
	seqs := make([]uint64, n)
	for i := range n {
		wg.Add(1)
		a.Say(text(lobby, "alice", fmt.Sprint(i)), func(r proto.Reply) {
			defer wg.Done()
			seqs[i] = r.Seq
		})
		switch i {
		case n / 3:
			o.end(t)
		case 2 * n / 3:
			o.begin(t)
		}
	}
	wg.Wait()
	for i, seq := range seqs {
		if seq != uint64(i+1) {
			t.Fatalf("message %d was stored as %d", i, seq)
		}
	}
	a.wantEvents(t, lobby, 1, n)
}

func TestRefusedMessagesAreAnswered(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a := open(t, s, "a", func(c *bridge.Config) { c.Publish.MaxPerSender, c.Publish.MaxRequests = 3, 10 })
	o.end(t)
	hold := text(proto.MustRoom("lobby"), "alice", "hi")
	hold.Patience = 300 * time.Millisecond
	var mu sync.Mutex
	codes := map[proto.Code]int{}
	var wg sync.WaitGroup
	count := func(r proto.Reply) {
		defer wg.Done()
		mu.Lock()
		defer mu.Unlock()
		codes[r.Refusal.Code]++
		if r.Refusal.Retry <= 0 {
			t.Errorf("%s without a time to retry", r.Refusal.Code)
		}
	}
	for range 5 {
		wg.Add(1)
		a.Say(hold, count)
	}
	wg.Wait()
	if codes[proto.Unavailable] != 3 || codes[proto.Overloaded] != 2 {
		t.Errorf("one sender: %v", codes)
	}
	clear(codes)
	for i := range 15 {
		wg.Add(1)
		hold.From.ID = fmt.Sprint("sender", i)
		a.Say(hold, count)
	}
	wg.Wait()
	if codes[proto.Unavailable] != 10 || codes[proto.Overloaded] != 5 {
		t.Errorf("many senders: %v", codes)
	}
}
