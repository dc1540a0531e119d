package presence

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"roomcast/proto"
)

// world contains several gateways with one room, and a network between them that loses and
// delays messages. Messages from one gateway to another arrive in order, or not at all.
type world struct {
	t     *testing.T
	rnd   *rand.Rand
	now   time.Time
	run   int64
	nodes []*node
}

// node is one gateway. It passes events to its tracker and sends the tracker's messages, as a
// [Presence] would do.
type node struct {
	id       string
	tracker  *Tracker
	sessions map[string]int // by id: the true number of sessions
	cut      bool           // the node can neither send nor receive
	told     int            // the last count that its members have received; -1 = none
	inbox    [][2]any       // messages that have not arrived yet: sender and message
}

func newWorld(t *testing.T, seed uint64, gateways int) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_000_000, 0)}
	for i := range gateways {
		w.nodes = append(w.nodes, &node{id: fmt.Sprint("g", i), sessions: make(map[string]int), told: -1})
	}
	return w
}

func (w *world) apply(n *node, e Event, from *node) {
	if n.tracker == nil {
		switch e := e.(type) {
		case Join:
			w.run++
			n.tracker = NewTracker(n.id, w.run, w.now)
		case Change:
			if _, told := e.Known[n.id]; told && e.Ask {
				w.run++
				w.post(n, from, Share{Gateway: n.id, Mark: Mark{Run: w.run}})
			}
			return
		default:
			return
		}
	}
	out := n.tracker.Apply(e, w.now)
	for _, a := range out.Notices {
		n.told = a.Count
	}
	for _, c := range out.Send {
		for _, to := range w.nodes {
			if to != n {
				w.post(n, to, c)
			}
		}
	}
	for _, s := range out.Answer {
		w.post(n, from, s)
	}
	if n.tracker.Over(w.now) && !n.cut {
		n.tracker, n.told = nil, -1
	}
}

func (w *world) post(from, to *node, message any) {
	if !from.cut && !to.cut {
		to.inbox = append(to.inbox, [2]any{from, message})
	}
}

// step lets some time pass and some messages arrive.
func (w *world) step(pass time.Duration) {
	w.now = w.now.Add(pass)
	for _, n := range w.nodes {
		for k := w.rnd.IntN(len(n.inbox) + 1); k > 0; k-- {
			w.arrive(n)
		}
		if n.tracker != nil && n.tracker.Busy() {
			w.apply(n, Tick{}, nil)
		}
	}
}

func (w *world) arrive(n *node) {
	if len(n.inbox) == 0 {
		return
	}
	from, e := n.inbox[0][0].(*node), n.inbox[0][1].(Event)
	n.inbox = n.inbox[1:]
	w.apply(n, e, from)
}

// act performs a random action.
func (w *world) act() {
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	id := fmt.Sprint("u", w.rnd.IntN(12))
	switch k := w.rnd.IntN(100); {
	case k < 45:
		n.sessions[id]++
		w.apply(n, Join{proto.Identity{ID: id}}, nil)
	case k < 85:
		if n.sessions[id] > 0 {
			if n.sessions[id]--; n.sessions[id] == 0 {
				delete(n.sessions, id)
			}
			w.apply(n, Leave{proto.Identity{ID: id}, proto.LeftClient}, nil)
			if len(n.sessions) == 0 {
				n.told = -1
			}
		}
	case k < 92: // the connection of the gateway breaks, and its messages that have not arrived are lost
		n.cut, n.inbox = true, nil
		w.lose(n)
	case k < 98:
		w.heal(n)
	default: // the gateway dies, and a new process takes its place
		n.tracker, n.sessions, n.inbox, n.told, n.cut = nil, make(map[string]int), nil, -1, false
		w.lose(n)
		for _, other := range w.nodes {
			if other != n {
				w.apply(other, Gone{n.id}, nil)
			}
		}
	}
}

// lose drops the messages of a gateway that have not arrived yet.
func (w *world) lose(n *node) {
	for _, other := range w.nodes {
		other.inbox = slices.DeleteFunc(other.inbox, func(m [2]any) bool { return m[0] == n })
	}
}

// heal ends an interruption. The gateway notices the end of the interruption itself. The other
// gateways notice that heartbeats are missing.
func (w *world) heal(n *node) {
	if !n.cut {
		return
	}
	n.cut = false
	for _, other := range w.nodes {
		w.apply(other, Doubt{}, nil)
	}
}

// After any joins, leaves, interruptions and deaths, all gateways know within one second which
// people are in the room. The members receive the right count at most one second later, even if
// many people join and leave.
func TestTrackersAgree(t *testing.T) {
	for seed := range uint64(300) {
		w := newWorld(t, seed, 2+int(seed%4))
		for range 150 {
			w.act()
			w.step(time.Duration(w.rnd.IntN(300)) * time.Millisecond)
		}
		for _, n := range w.nodes {
			w.heal(n)
		}
		w.settle(time.Second)
		want := make(map[string]bool)
		for _, n := range w.nodes {
			for id := range n.sessions {
				want[id] = true
			}
		}
		for _, n := range w.nodes {
			if len(n.sessions) == 0 {
				continue
			}
			if got := n.tracker.people(); !maps.Equal(got, want) || n.tracker.Count() != len(want) {
				t.Fatalf("seed %d: %s knows %v (count %d), want %d: %v", seed, n.id, got, n.tracker.Count(), len(want), want)
			}
		}
		w.settle(time.Second)
		for _, n := range w.nodes {
			if len(n.sessions) > 0 && n.told != len(want) {
				t.Fatalf("seed %d: %s has told %d, want %d", seed, n.id, n.told, len(want))
			}
		}
	}
}

// settle advances the clock by d in short steps. All messages arrive meanwhile.
func (w *world) settle(d time.Duration) {
	for ; d > 0; d -= 20 * time.Millisecond {
		w.step(20 * time.Millisecond)
		for _, n := range w.nodes {
			for len(n.inbox) > 0 {
				w.arrive(n)
			}
		}
	}
}

func (t *Tracker) people() map[string]bool {
	all := make(map[string]bool)
	for _, who := range t.here.list {
		all[who.ID] = true
	}
	for _, s := range t.others {
		for _, who := range s.people.list {
			all[who.ID] = true
		}
	}
	return all
}

// A change did not reach any other gateway. The other gateways must notice this when the sender
// sends its mark again.
func TestLostChangeIsNoticed(t *testing.T) {
	w := newWorld(t, 1, 2)
	a, b := w.nodes[0], w.nodes[1]
	join := func(n *node, id string) { w.apply(n, Join{proto.Identity{ID: id}}, nil) }
	settle := func(steps int) {
		for range steps {
			w.step(100 * time.Millisecond)
			for range 4 {
				w.arrive(a)
				w.arrive(b)
			}
		}
	}
	join(a, "alice")
	join(b, "bob")
	settle(50)
	join(a, "carol")
	b.inbox = nil
	settle(15)
	if b.tracker.Count() != 3 || b.told != 3 {
		t.Errorf("b knows %d people and has told %d, want 3", b.tracker.Count(), b.told)
	}
}

// A person has several sessions, on this gateway and on others. Members receive one join and one
// leave of this person.
func TestPeopleAreCountedNotSessions(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	tr := NewTracker("a", 1, now)
	alice := proto.Identity{ID: "alice", Name: "Alice"}
	var got []string
	apply := func(e Event) {
		now = now.Add(time.Second)
		for _, n := range tr.Apply(e, now).Notices {
			got = append(got, string(n.AppendJSON(nil, proto.MustRoom("lobby"))))
		}
	}
	apply(Join{proto.Identity{ID: "bob"}})
	apply(Join{alice})
	apply(Join{alice})
	apply(Change{Gateway: "b", Mark: Mark{Run: 2, Version: 1}, Deltas: []Delta{{Identity: alice}}})
	apply(Leave{alice, proto.LeftClient})
	apply(Leave{alice, proto.LeftClient})
	apply(Change{Gateway: "b", Mark: Mark{Run: 2, Version: 2}, Deltas: []Delta{{Identity: alice, Left: proto.LeftServer}}})
	want := []string{
		`{"room":"lobby","joined":{"id":"bob","count":1}}`,
		`{"room":"lobby","joined":{"id":"alice","name":"Alice","count":2}}`,
		`{"room":"lobby","left":{"id":"alice","name":"Alice","reason":"server","count":1}}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A gateway sends the list of the people in a large room in several parts. If a part is missing,
// the list must have no effect.
func TestLongListArrivesInParts(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a, b := NewTracker("a", 1, now), NewTracker("b", 2, now)
	const n = 2*maxEntries + 1
	for i := range n {
		a.Apply(Join{proto.Identity{ID: fmt.Sprint("u", i)}}, now)
	}
	ask := b.Apply(Join{proto.Identity{ID: "bob"}}, now).Send[0]
	parts := a.Apply(ask, now.Add(time.Second)).Answer
	if len(parts) != 3 {
		t.Fatalf("got %d parts, want 3", len(parts))
	}
	b.Apply(parts[0], now)
	b.Apply(parts[2], now)
	if b.Count() != 1 {
		t.Errorf("without the second part b counts %d people, want 1", b.Count())
	}
	for _, part := range parts {
		b.Apply(part, now)
	}
	if b.Count() != n+1 {
		t.Errorf("b counts %d people, want %d", b.Count(), n+1)
	}
}

// If there are many joins and leaves in one second, one notice with the count takes the place of
// most of them.
func TestNoticesAreLimited(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	tr := NewTracker("a", 1, now)
	var got []Notice
	for i := range 300 {
		got = append(got, tr.Apply(Join{proto.Identity{ID: fmt.Sprint("u", i)}}, now).Notices...)
	}
	if len(got) != noticeRate {
		t.Errorf("got %d notices in one second, want %d", len(got), noticeRate)
	}
	got = tr.Apply(Tick{}, now.Add(time.Second)).Notices
	if len(got) != 1 || got[0].Count != 300 || got[0].Who.ID != "" {
		t.Errorf("got %+v, want one notice of the count 300", got)
	}
}

// When a person gets another name, the lists of all gateways get it, and members receive no notice.
func TestNewNameReachesAllGateways(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a, b := NewTracker("a", 1, now), NewTracker("b", 2, now)
	old, renamed := proto.Identity{ID: "alice", Name: "Alice"}, proto.Identity{ID: "alice", Name: "Ally"}
	apply := func(e Event) (out Output) {
		now = now.Add(2 * batchTime)
		out = a.Apply(e, now)
		for _, c := range out.Send {
			c.Ask = false
			b.Apply(c, now)
		}
		return out
	}
	b.Apply(Join{proto.Identity{ID: "bob"}}, now)
	apply(Join{old})
	apply(Tick{})
	notices := append(apply(Join{renamed}).Notices, apply(Leave{old, proto.LeftClient}).Notices...)
	if got := a.here.list; len(notices) != 0 || len(got) != 1 || got[0].Name != "Ally" || got[0].Sessions != 1 {
		t.Errorf("got %v and the notices %v, want one session of Ally and no notice", got, notices)
	}
	apply(Tick{})
	if s := b.others["a"]; s == nil || len(s.people.list) != 1 || s.people.list[0].Name != "Ally" || b.Count() != 2 {
		t.Errorf("the other gateway has %+v, want Ally", s)
	}
}
