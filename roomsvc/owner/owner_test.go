package owner

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// keeper notes what it is told, and does as a test wants.
type keeper struct {
	mu       sync.Mutex
	prepare  error // what Prepare returns
	taken    [proto.Partitions][]*stream.Fence
	released [proto.Partitions]int
	take     func(p int, f *stream.Fence)
}

type deaf struct{}

func (deaf) Committed(uint64) {}
func (deaf) Failed(error)     {}

func (k *keeper) Prepare(int, bool) (stream.Sink, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return deaf{}, k.prepare
}

func (k *keeper) Pause(int) stream.Sink { return deaf{} }

func (k *keeper) Take(p int, f *stream.Fence) {
	k.mu.Lock()
	k.taken[p] = append(k.taken[p], f)
	k.mu.Unlock()
	if k.take != nil {
		k.take(p, f)
	}
}

func (k *keeper) Fail(int, bool) {}

func (k *keeper) Release(p int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.released[p]++
}

func (k *keeper) times(p int) (taken, released int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.taken[p]), k.released[p]
}

// rig is one owner with a real stream.
type rig struct {
	owner   *Owner
	keeper  *keeper
	commits *stream.Committer
	nc      *nats.Conn
	line    atomic.Pointer[nats.Conn] // by which records leave
}

func start(t *testing.T, k *keeper) *rig {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(5 * time.Second) {
		t.Fatal("the server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	cfg := stream.DefaultConfig()
	cfg.Log = slog.New(slog.DiscardHandler)
	r := &rig{keeper: k, nc: nc}
	cfg.Dial = func(opts ...nats.Option) (*nats.Conn, error) {
		line, err := nats.Connect(s.ClientURL(), opts...)
		r.line.Store(line)
		return line, err
	}
	if err := stream.Ensure(t.Context(), nc, cfg); err != nil {
		t.Fatal(err)
	}
	r.commits = stream.NewCommitter(cfg)
	t.Cleanup(r.commits.Close)
	r.owner = New(nc, r.commits, k, Config{ID: "a", Lease: time.Second, Replicas: 1, Renew: time.Hour, Log: cfg.Log})
	return r
}

func (r *rig) run(t *testing.T) {
	t.Helper()
	if err := r.owner.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.owner.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func wait(t *testing.T, what string, until func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !until(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// The fence may be void before it is known here that it was taken. The partition would
// otherwise count as held, and nobody would serve it.
func TestLossDuringTakeIsNoticed(t *testing.T) {
	k := new(keeper)
	r := start(t, k)
	var once sync.Once
	k.take = func(p int, f *stream.Fence) {
		if p == 7 {
			once.Do(func() {
				r.line.Load().Close()
				wait(t, "the fence to be void", func() bool { return f.Void() != nil })
				r.owner.Lost(p, f, f.Void())
			})
		}
	}
	r.run(t)
	wait(t, "the partition to be taken again", func() bool {
		taken, _ := k.times(7)
		return taken > 1
	})
}
