package owner

import (
	"math/rand"
	"testing"
	"time"

	"roomcast/roomsvc/stream"
)

// TestRandomEvents applies random events and checks four rules after each. An instance without a
// lease acquires no partition. No partition waits for two results at the same time. An instance
// whose lease has expired trusts its memory only after it has released all its partitions. An
// instance says that a partition is free only if it does not own the partition and is not taking it.
func TestRandomEvents(t *testing.T) {
	for seed := range int64(200) {
		rnd := rand.New(rand.NewSource(seed))
		now := time.Unix(0, 0)
		own := newOwnership(Config{ID: "a", Lease: 2 * time.Second, Renew: 5 * time.Second}, 4)
		waits := map[int]state{} // partitions that wait for a result
		looks := 0
		seqs := map[string]uint64{}
		next := uint64(0)
		step := func(e event) {
			since := own.until
			for _, a := range own.step(e, now) {
				p, is := -1, foreign
				switch a := a.(type) {
				case look:
					if looks++; looks > 1 {
						t.Fatalf("seed %d: two looks at the same time", seed)
					}
				case acquire:
					p, is = a.p, acquiring
					if !now.Before(own.until) {
						t.Fatalf("seed %d: %d is acquired without a lease", seed, p)
					}
				case renew:
					p, is = a.p, renewing
				case release:
					p, is = a.p, releasing
				case answer:
					if waits[a.p] != foreign || own.parts[a.p].state == owned {
						t.Fatalf("seed %d: partition %d is %s, but is called free", seed, a.p, own.parts[a.p].state)
					}
				}
				if p < 0 {
					continue
				}
				if waits[p] != foreign {
					t.Fatalf("seed %d: partition %d waits for the result of %s, but becomes %s", seed, p, waits[p], is)
				}
				waits[p] = is
			}
			if own.pending != len(waits) {
				t.Fatalf("seed %d: %d results are pending, but it counts %d", seed, len(waits), own.pending)
			}
			if _, is := e.(looked); is && !now.Before(since) && now.Before(own.trusted()) && own.held() > 0 && !since.IsZero() {
				t.Fatalf("seed %d: the lease has expired, but the instance trusts the memory of its partitions", seed)
			}
		}
		result := func() (int, state) {
			for p, is := range waits {
				return p, is
			}
			return -1, foreign
		}
		step(started{})
		for range 300 {
			err := stream.ErrUnavailable
			if rnd.Intn(2) == 0 {
				err = stream.ErrLost
			}
			p := rnd.Intn(4)
			switch n := rnd.Intn(14); {
			case n < 3 && looks > 0:
				looks--
				e := looked{sent: now, renewed: rnd.Intn(4) > 0, leaving: own.leaving}
				if !e.renewed || rnd.Intn(4) == 0 {
					e.err = err
				}
				for _, id := range []string{"a", "b", "c"}[:1+rnd.Intn(3)] {
					if next++; id == "a" || rnd.Intn(2) == 0 {
						seqs[id] = next
					}
					e.leases = append(e.leases, lease{instance{ID: id, Lease: 2 * time.Second}, seqs[id], now})
				}
				step(e)
			case n < 7:
				p, is := result()
				if p < 0 {
					continue
				}
				delete(waits, p)
				switch {
				case is == releasing:
					step(released{p})
				case rnd.Intn(3) == 0:
					step(failed{p, rnd.Intn(2) == 0, err})
				default:
					step(acquired{p})
				}
			case n < 8:
				step(lost{p, err})
			case n < 9:
				step(asked{p})
			case n < 10:
				step(taken{p, "b"})
			case n < 11:
				step(worn{p})
			case n < 12:
				step(changed{})
			case n == 12 && rnd.Intn(50) == 0:
				step(stopped{})
			default:
				now = now.Add(time.Duration(rnd.Intn(1500)) * time.Millisecond)
				step(ticked{beat: true})
			}
		}
	}
}
