package stream

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startNATS(t testing.TB, sync bool) *natstest.Server {
	t.Helper()
	return natstest.Start(t, func(o *server.Options) { o.SyncAlways = sync })
}

func config(s *natstest.Server) Config {
	cfg := DefaultConfig()
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.Dial = func(opts ...nats.Option) (*nats.Conn, error) { return nats.Connect(s.ClientURL(), opts...) }
	return cfg
}

// heard is a [Sink] that remembers its calls.
type heard struct {
	mu     sync.Mutex
	stored []uint64
	err    error
}

func (h *heard) Committed(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stored = append(h.stored, seq)
}

func (h *heard) Failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *heard) state() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.stored), h.err
}

// take takes the fence of partition p. If it fails because the machine is busy, it tries again.
func take(t testing.TB, c *Committer, p int, owner string, sink Sink) (f *Fence) {
	t.Helper()
	natstest.Eventually(t, "a fence", func() bool {
		m, err := c.Marker(t.Context(), p)
		if err == nil {
			f, err = c.Fence(t.Context(), p, m, owner, sink)
		}
		return err == nil
	})
	return f
}

func record(room proto.Room, seq uint64) *proto.Record {
	e := proto.Event{Room: room, Seq: seq, At: time.UnixMilli(5), From: proto.Identity{ID: "u"}, Content: proto.Content{Kind: proto.Text, Body: []byte("hi")}}
	return &proto.Record{Room: room, Seq: seq, From: "u", Stamp: "s", State: proto.State{Epoch: "e", At: e.At}, Payload: e.AppendJSON(nil)}
}

// ways runs a test twice. The first server syncs each record to disk before it answers, and the
// second server does not.
func ways(t *testing.T, test func(t *testing.T, s *natstest.Server, cfg Config)) {
	for name, sync := range map[string]bool{"unsynced": false, "synced": true} {
		t.Run(name, func(t *testing.T) {
			s := startNATS(t, sync)
			cfg := config(s)
			cfg.SyncAlways = sync
			if err := Ensure(t.Context(), s.Connect(t), cfg); err != nil {
				t.Fatal(err)
			}
			test(t, s, cfg)
		})
	}
}

var (
	lobby = proto.MustRoom("lobby")
	hall  = proto.MustRoom("hall")
)

func TestRecordsAreCommittedInOrder(t *testing.T) {
	ways(t, func(t *testing.T, s *natstest.Server, cfg Config) {
		c := NewCommitter(cfg)
		defer c.Close()
		const n = 1000
		var sinks [2]heard
		var tasks sync.WaitGroup
		for i, room := range []proto.Room{lobby, hall} {
			f := take(t, c, room.Partition(), "a", &sinks[i])
			tasks.Go(func() {
				for seq := range uint64(n) {
					if err := f.Append(record(room, seq+1)); err != nil {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
		tasks.Wait()
		js, err := jetstream.New(s.Connect(t))
		if err != nil {
			t.Fatal(err)
		}
		log, err := js.Stream(t.Context(), proto.StreamName)
		if err != nil {
			t.Fatal(err)
		}
		for i, room := range []proto.Room{lobby, hall} {
			h := &sinks[i]
			natstest.Eventually(t, "all records", func() bool { got, _ := h.state(); return got == n })
			for k, at := range h.stored {
				msg, err := log.GetMsg(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				rec, err := proto.ParseRecord(msg.Subject, msg.Header, msg.Data)
				if err != nil || rec.Room != room || rec.Seq != uint64(k+1) {
					t.Fatalf("record %d of %s: got %+v, %v", k+1, room, rec, err)
				}
			}
		}
	})
}

func TestOlderFenceAppendsNothing(t *testing.T) {
	ways(t, func(t *testing.T, s *natstest.Server, cfg Config) {
		a, b := NewCommitter(cfg), NewCommitter(cfg)
		defer a.Close()
		defer b.Close()
		var mine, other, theirs heard
		old := take(t, a, lobby.Partition(), "a", &mine)
		kept := take(t, a, hall.Partition(), "a", &other)
		if err := old.Append(record(lobby, 1)); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, "the first record", func() bool { n, _ := mine.state(); return n == 1 })
		take(t, b, lobby.Partition(), "b", &theirs)
		// The loss of a fence does not affect another partition, even if one batch has records of
		// both partitions.
		for seq := uint64(1); seq <= 50; seq++ {
			old.Append(record(lobby, seq+1))
			if err := kept.Append(record(hall, seq)); err != nil {
				t.Fatal(err)
			}
		}
		natstest.Eventually(t, "the other partition's records", func() bool { n, _ := other.state(); return n == 50 })
		natstest.Eventually(t, "the loss", func() bool { _, err := mine.state(); return errors.Is(err, ErrLost) })
		if err := old.Append(record(lobby, 2)); !errors.Is(err, ErrLost) {
			t.Errorf("append under an old fence: got %v, want %v", err, ErrLost)
		}
		if n, err := other.state(); n != 50 || err != nil {
			t.Errorf("other partition: got %d, %v", n, err)
		}
		if m, err := b.Marker(t.Context(), lobby.Partition()); err != nil || m.Owner != "b" {
			t.Errorf("marker: got %+v, %v, want owner b", m, err)
		}
		if n := count(t, s, lobby); n != 1 {
			t.Errorf("the lobby has %d records, want 1", n)
		}
	})
}

func TestFenceOfAnOldMarkerIsRefused(t *testing.T) {
	ways(t, func(t *testing.T, _ *natstest.Server, cfg Config) {
		c := NewCommitter(cfg)
		defer c.Close()
		take(t, c, 3, "a", &heard{})
		if _, err := c.Fence(t.Context(), 3, Marker{}, "b", &heard{}); !errors.Is(err, ErrLost) {
			t.Errorf("got %v, want %v", err, ErrLost)
		}
	})
}

// The server does not answer, like a server with a full disk. Then the sink of the fence receives
// an error after the deadline.
func TestFenceFailsIfTheServerIsSilent(t *testing.T) {
	ways(t, func(t *testing.T, s *natstest.Server, cfg Config) {
		cfg.Deadline = 200 * time.Millisecond
		pause := newGate(t, s)
		cfg.Dial = func(opts ...nats.Option) (*nats.Conn, error) { return nats.Connect(pause.url, opts...) }
		c := NewCommitter(cfg)
		defer c.Close()
		var h heard
		f := take(t, c, lobby.Partition(), "a", &h)
		pause.shut()
		begun := time.Now()
		if err := f.Append(record(lobby, 1)); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, "the deadline", func() bool { _, err := h.state(); return errors.Is(err, ErrUnavailable) })
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("took %s for a deadline of %s", took, cfg.Deadline)
		}
		pause.open()
		// A fence that is taken over a new connection works.
		var again heard
		f = take(t, c, lobby.Partition(), "a", &again)
		if err := f.Append(record(lobby, 2)); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, "a record", func() bool { n, _ := again.state(); return n == 1 })
	})
}

func TestEnsureSaysWhatTheOperatorCanDo(t *testing.T) {
	s := startNATS(t, false)
	nc := s.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	good := config(s)
	for name, c := range map[string]struct {
		there func(*jetstream.StreamConfig)
		mine  func(*Config)
		want  string
	}{
		"partitions": {there: func(c *jetstream.StreamConfig) { c.Metadata[metaPartitions] = "32" }, want: "32 partitions"},
		"schema":     {there: func(c *jetstream.StreamConfig) { c.Metadata[metaSchema] = "3" }, want: "upgrade this one"},
		"foreign":    {there: func(c *jetstream.StreamConfig) { c.Metadata = nil }, want: "not made by roomcast"},
		"history":    {mine: func(c *Config) { c.HistoryPerRoom = 500 }, want: "nats stream edit ROOMS --max-msgs-per-subject 500"},
		"age":        {mine: func(c *Config) { c.HistoryAge = time.Hour }, want: "--max-age 1h0m0s"},
		"message":    {mine: func(c *Config) { c.MaxMessage = 1 << 10 }, want: "--max-msg-size"},
		"republish":  {there: func(c *jetstream.StreamConfig) { c.RePublish = nil }, want: "republish"},
		"payload":    {mine: func(c *Config) { c.MaxMessage = 1 << 20 }, want: "max_payload"},
		"same":       {want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			there, mine := good.settings(), good
			if c.there != nil {
				c.there(&there)
			}
			if c.mine != nil {
				c.mine(&mine)
			}
			// The server may still be removing the files of the previous stream.
			natstest.Eventually(t, "the stream", func() bool { _, err := js.CreateStream(t.Context(), there); return err == nil })
			defer js.DeleteStream(context.Background(), proto.StreamName)
			err := Ensure(t.Context(), nc, mine)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestEnsureChangesALimitOnlyIfItsFlagIsGiven(t *testing.T) {
	s := startNATS(t, false)
	nc := s.Connect(t)
	others, alone := config(s), config(s)
	given := map[string]bool{}
	alone.Change = func(flag string) bool { return given[flag] }
	ensure := func(c Config, want string) {
		t.Helper()
		err := Ensure(t.Context(), nc, c)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	ensure(others, "")
	for flag, set := range map[string]func(*Config){
		"history-per-room": func(c *Config) { c.HistoryPerRoom = 500 },
		"history-age":      func(c *Config) { c.HistoryAge = 30 * time.Second },
		"history-bytes":    func(c *Config) { c.MaxBytes = 1 << 20 },
		"max-message":      func(c *Config) { c.MaxMessage = 1 << 10 },
	} {
		set(&alone)
		ensure(alone, "give --"+flag+" to change the log")
		given[flag] = true
		ensure(alone, "")
		set(&others)
		ensure(others, "") // the limit is the same now
	}
	given["replicas"], alone.Replicas = true, 3
	ensure(alone, "--replicas")
}

func count(t testing.TB, s *natstest.Server, room proto.Room) uint64 {
	t.Helper()
	js, err := jetstream.New(s.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	log, err := js.Stream(t.Context(), proto.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	info, err := log.Info(t.Context(), jetstream.WithSubjectFilter(room.LogSubject()))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Subjects[room.LogSubject()]
}
