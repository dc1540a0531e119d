package service

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// recordingGateway acts as a gateway in the process of the service. It records everything that it
// receives.
type recordingGateway struct {
	mu     sync.Mutex
	seqs   map[proto.Room][]uint64
	stream map[uint64]bool
	missed int
}

func (w *recordingGateway) Receive(rec proto.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seqs[rec.Room] = append(w.seqs[rec.Room], rec.Seq)
	w.stream[rec.Stream] = true
}

func (w *recordingGateway) Missed(int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed++
}

func (w *recordingGateway) of(room proto.Room) []uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seqs[room])
}

// startLocal runs an instance with a gateway in this process.
func startLocal(t *testing.T, srv *natstest.Server) (*Service, *recordingGateway) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dial, cfg.Log = srv.Dial, slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &recordingGateway{seqs: make(map[proto.Room][]uint64), stream: make(map[uint64]bool)}
	s.Attach(w)
	natstest.Run(t, "the service", s.Run)
	natstest.Eventually(t, "the service to own all rooms", func() bool { return s.Ready() == nil && s.owner.Held() == proto.Partitions })
	return s, w
}

// offer offers a request to the service again and again, until the answer does not ask it to try
// again.
func offer(t *testing.T, s *Service, room proto.Room, r proto.Request) proto.Reply {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		got := make(chan proto.Reply, 1)
		s.Offer(room, &r, func(r proto.Reply) { got <- r })
		select {
		case reply := <-got:
			if final(reply) {
				return reply
			}
		case <-time.After(time.Second):
		}
	}
	t.Fatal("got no final answer")
	return proto.Reply{}
}

func text(key, body string) proto.Request {
	return proto.Request{From: proto.Identity{ID: "alice"}, Rights: proto.AllRights, Key: key, Content: proto.Content{Kind: proto.Text, Body: []byte(body)}}
}

// The gateway in this process receives each record before the sender receives its answer. It
// receives the records of all senders, also of NATS clients, in the order of the log. NATS clients
// receive all records too.
func TestLocalGatewayReceivesEachRecordBeforeItsAnswer(t *testing.T) {
	srv := startNATS(t, true)
	s, w := startLocal(t, srv)
	lobby := proto.MustRoom("lobby")
	nc := srv.Connect(t)
	out, err := nc.SubscribeSync(lobby.OutSubject())
	if err != nil {
		t.Fatal(err)
	}
	nc.Flush()
	var want []uint64
	for seq := uint64(1); seq <= 40; seq++ {
		var r proto.Reply
		switch {
		case seq%10 == 0:
			r = offer(t, s, lobby, proto.Request{From: proto.Identity{ID: "alice"}, Rights: proto.AllRights, Act: proto.ActClose})
			want = append(want, seq)
			seq++
			r = offer(t, s, lobby, proto.Request{From: proto.Identity{ID: "alice"}, Rights: proto.AllRights, Act: proto.ActReopen})
		case seq%2 == 0:
			r = say(t, nc, "lobby", "bob", "", "over NATS")
		default:
			r = offer(t, s, lobby, text("", "direct"))
		}
		if want = append(want, seq); r.Seq != seq {
			t.Fatalf("got %+v, want seq %d", r, seq)
		}
		if got := w.of(lobby); !slices.Equal(got, want) {
			t.Fatalf("after the answer to %d, the gateway has %v", seq, got)
		}
	}
	for _, seq := range want {
		m, err := out.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if rec, err := proto.ParseRecord(m.Subject, m.Header, m.Data); err != nil || rec.Seq != seq {
			t.Fatalf("got record %d over NATS, want %d: %v", rec.Seq, seq, err)
		}
	}
	if len(w.stream) != len(want) {
		t.Errorf("got %d positions in the stream, want %d", len(w.stream), len(want))
	}
}

// A gateway in this process gets the same refusals as a client over NATS. If it repeats a request,
// it gets the first answer again.
func TestLocalRequestsFollowTheSameRules(t *testing.T) {
	s, _ := startLocal(t, startNATS(t, true))
	lobby := proto.MustRoom("lobby")
	for name, r := range map[string]proto.Request{
		"too large": text("k", strings.Repeat("x", s.cfg.MaxMessage+1)),
		"no UTF-8":  text("k", "\xff"),
		"bad id":    {From: proto.Identity{ID: "\n"}, Content: proto.Content{Kind: proto.Text}},
		"bad key":   text("\n", "hi"),
		"no JSON":   {From: proto.Identity{ID: "a"}, Content: proto.Content{Kind: proto.Data, Body: []byte("{")}},
		"long why":  {From: proto.Identity{ID: "a"}, Act: proto.ActClose, Why: strings.Repeat("x", 1000)},
	} {
		if got := offer(t, s, lobby, r); got.Refusal == nil {
			t.Errorf("%s: got %+v, want a refusal", name, got)
		}
	}
	first, again := offer(t, s, lobby, text("k", "hi")), offer(t, s, lobby, text("k", "hi"))
	if first.Seq != 1 || again.Seq != 1 || !again.Duplicate {
		t.Errorf("got %+v and %+v, want seq 1 twice", first, again)
	}
	if got := offer(t, s, lobby, text("k", "another text")); got.Refusal == nil {
		t.Errorf("another text under the key: got %+v, want a refusal", got)
	}
}

// If the service does not know whether the stream has stored the last records, it tells the
// gateway: the gateway may have missed records.
func TestLocalGatewayLearnsThatItMayHaveMissedRecords(t *testing.T) {
	srv := startNATS(t, true)
	s, w := startLocal(t, srv)
	lobby := proto.MustRoom("lobby")
	offer(t, s, lobby, text("", "before"))
	w.mu.Lock()
	before := w.missed
	w.mu.Unlock()
	srv.Stop()
	got := make(chan proto.Reply, 1)
	s.Offer(lobby, &proto.Request{From: proto.Identity{ID: "alice"}, Rights: proto.AllRights, Key: "k", Content: proto.Content{Kind: proto.Text, Body: []byte("while NATS is away")}},
		func(r proto.Reply) { got <- r })
	if r := <-got; r.Refusal == nil || r.Refusal.Code != proto.Unavailable {
		t.Errorf("got %+v, want unavailable", r)
	}
	srv.Restart(t)
	if r := offer(t, s, lobby, text("k", "while NATS is away")); r.Refusal != nil {
		t.Errorf("got %v after the restart", r.Refusal)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missed == before {
		t.Error("the gateway was not told that it may have missed records")
	}
}
