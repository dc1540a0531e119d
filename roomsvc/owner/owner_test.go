package owner

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/stream"
)

// keeper implements [Partitions]. It remembers the calls, and a test chooses their results.
type keeper struct {
	mu       sync.Mutex
	prepare  error // the error that Prepare returns
	taken    [proto.Partitions][]*stream.Fence
	released [proto.Partitions]int
	prepared [proto.Partitions]int
	before   [proto.Partitions]Before // the argument of the last Prepare
	take     func(p int, f *stream.Fence)
}

type deaf struct{}

func (deaf) Committed(uint64) {}
func (deaf) Failed(error)     {}

func (k *keeper) Prepare(p int, before Before) (stream.Sink, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.prepared[p]++
	k.before[p] = before
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

func (k *keeper) last(p int) *stream.Fence {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.taken[p][len(k.taken[p])-1]
}

func (k *keeper) times(p int) (taken, released int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.taken[p]), k.released[p]
}

// rig is an Owner with a real NATS server. It can also act as another instance.
type rig struct {
	owner   *Owner
	keeper  *keeper
	commits *stream.Committer
	nc      *nats.Conn
	line    atomic.Pointer[nats.Conn] // the commit connection
}

func start(t *testing.T, k *keeper) *rig {
	t.Helper()
	s := natstest.Start(t)
	nc := s.Connect(t)
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
	natstest.Run(t, "the owner", r.owner.Run)
}

// other gives another instance a lease that does not expire. It returns the partitions that this
// instance should then own.
func (r *rig) other(t *testing.T) (theirs []int) {
	t.Helper()
	js, err := jetstream.New(r.nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), keyPrefix+"b", []byte(`{"id":"b","lease":3600000000000}`)); err != nil {
		t.Fatal(err)
	}
	var m peers
	m.see(lives("a", "b"), time.Now())
	for p := range proto.Partitions {
		if !m.chosen(p, "a") {
			theirs = append(theirs, p)
		}
	}
	return theirs
}

// The owner may lose a fence before it has received the news that it has taken this fence. The
// owner must notice the loss. Otherwise it would count the partition as owned, and no instance
// would answer the partition's commands.
func TestLossDuringTakeIsNoticed(t *testing.T) {
	k := new(keeper)
	r := start(t, k)
	var once sync.Once
	k.take = func(p int, f *stream.Fence) {
		if p == 7 {
			once.Do(func() {
				r.line.Load().Close()
				natstest.Eventually(t, "the fence to be void", func() bool { return f.Void() != nil })
				r.owner.Lost(p, f, f.Void())
			})
		}
	}
	r.run(t)
	natstest.Eventually(t, "the partition to be taken again", func() bool {
		taken, _ := k.times(7)
		return taken > 1
	})
}

// Another instance has taken a partition while commands for it waited in this instance. This
// instance drops the commands without an answer, because the new owner answers them.
func TestPartitionOfAnotherOwnerIsReleased(t *testing.T) {
	t.Run("lost", func(t *testing.T) {
		k := new(keeper)
		r := start(t, k)
		r.run(t)
		natstest.Eventually(t, "all partitions", func() bool { return r.owner.Held() == proto.Partitions })
		theirs := r.other(t)
		for _, p := range theirs {
			r.owner.Lost(p, k.last(p), stream.ErrLost)
		}
		natstest.Eventually(t, "all of them to be released", func() bool {
			for _, p := range theirs {
				if _, released := k.times(p); released == 0 {
					return false
				}
			}
			return true
		})
	})
	t.Run("never taken", func(t *testing.T) {
		k := &keeper{prepare: errors.New("not now")}
		r := start(t, k)
		r.run(t)
		natstest.Eventually(t, "failures of all", func() bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return !slices.Contains(k.prepared[:], 0)
		})
		theirs := r.other(t)
		natstest.Eventually(t, "all of them to be released", func() bool {
			for _, p := range theirs {
				if _, released := k.times(p); released == 0 {
					return false
				}
			}
			return true
		})
	})
}

// Prepare must get the right former owner. Another instance may have answered commands that also
// wait in this instance. If this instance itself owned the partition, nobody has answered them.
func TestPrepareNamesTheEarlierOwner(t *testing.T) {
	k := new(keeper)
	r := start(t, k)
	const theirs, ours = 7, 8
	for p, owner := range map[int]string{theirs: "b", ours: "a"} {
		if _, err := r.commits.Fence(t.Context(), p, stream.Marker{}, owner, deaf{}); err != nil {
			t.Fatal(err)
		}
	}
	r.run(t)
	natstest.Eventually(t, "all partitions", func() bool { return r.owner.Held() == proto.Partitions })
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.before[theirs] != Nobody || k.before[ours] != ThisInstance {
		t.Errorf("got %v for the other's and %v for ours", k.before[theirs], k.before[ours])
	}
}

// An instance that cannot renew its lease may be cut off from the others, and these then own its
// partitions. The instance must not take the partitions back again and again.
func TestNothingIsTakenWithoutALease(t *testing.T) {
	k := new(keeper)
	r := start(t, k)
	r.run(t)
	natstest.Eventually(t, "all partitions", func() bool { return r.owner.Held() == proto.Partitions })
	leases := "KV_" + proto.LeaseBucket
	natstest.LimitMessages(t, r.nc, leases, 1) // a lease has more than one byte
	natstest.Eventually(t, "the lease to run out", func() bool { return !r.owner.Trusted() })
	for p := range proto.Partitions {
		r.owner.Lost(p, k.last(p), stream.ErrUnavailable)
	}
	natstest.Eventually(t, "all to be lost", func() bool { return r.owner.Held() == 0 })
	var before [proto.Partitions]int
	for p := range before {
		before[p], _ = k.times(p)
	}
	// The owner checks its partitions every 50 ms, also without a lease. Ten of these checks must
	// acquire nothing.
	for until := time.Now().Add(10 * firstPause); time.Now().Before(until); time.Sleep(firstPause) {
		for p := range before {
			if taken, _ := k.times(p); taken != before[p] {
				t.Fatalf("partition %d is taken without a lease", p)
			}
		}
	}
	natstest.LimitMessages(t, r.nc, leases, -1)
	natstest.Eventually(t, "all partitions to be taken again", func() bool { return r.owner.Held() == proto.Partitions })
}
