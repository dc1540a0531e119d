package owner

import (
	"fmt"
	"testing"
	"time"

	"roomcast/proto"
)

// stored counts the renewals in tests. It plays the part of the stream sequence of the bucket.
var stored uint64

// lives returns a lease for each instance, as if all had just renewed theirs.
func lives(ids ...string) (there []lease) {
	for _, id := range ids {
		stored++
		there = append(there, lease{instance{ID: id, Lease: testLease}, stored, time.Now()})
	}
	return there
}

const testLease = 2 * time.Second

// owners returns the instance that should own each partition. It fails the test unless all
// instances agree.
func owners(t *testing.T, ids ...string) (out [proto.Partitions]string) {
	t.Helper()
	for p := range out {
		for _, id := range ids {
			var m peers
			m.see(lives(ids...), time.Now())
			if m.chosen(p, id) {
				if out[p] != "" {
					t.Fatalf("partition %d: %s and %s are chosen", p, out[p], id)
				}
				out[p] = id
			}
		}
		if out[p] == "" {
			t.Fatalf("partition %d: none of %v is chosen", p, ids)
		}
	}
	return out
}

func TestEveryPartitionHasOneOwner(t *testing.T) {
	var ids []string
	before := owners(t, "a0")
	for n := 1; n <= 8; n++ {
		ids = append(ids, fmt.Sprintf("a%d", n-1))
		now := owners(t, ids...)
		share := map[string]int{}
		for p, id := range now {
			share[id]++
			// The new instance takes its share, and no partition moves between two other instances.
			if id != before[p] && id != ids[n-1] {
				t.Errorf("%d instances: partition %d went from %s to %s", n, p, before[p], id)
			}
		}
		for id, got := range share {
			if fair := proto.Partitions / n; got < fair/3 || got > 3*fair {
				t.Errorf("%d instances: %s has %d partitions, %d would be fair", n, id, got, fair)
			}
		}
		before = now
	}
}

func TestLeavingInstanceIsNotChosen(t *testing.T) {
	var m peers
	there := lives("a", "b")
	there[1].Leaving = true
	m.see(there, time.Now())
	for p := range proto.Partitions {
		if !m.chosen(p, "a") {
			t.Errorf("partition %d belongs to b, which is leaving", p)
		}
	}
	if !m.alive("b") || !m.alone("a") || m.alone("b") {
		t.Error("b is leaving, so it must be asked for its partitions and keep none")
	}
}

func TestInstanceCountsAsDeadAfterItsLease(t *testing.T) {
	var m peers
	now := time.Unix(0, 0)
	see := func(after time.Duration, there ...lease) []change {
		now = now.Add(after)
		return m.see(there, now)
	}
	dies := func(t *testing.T, what string, got []change) {
		t.Helper()
		if len(got) != 1 || got[0] != (change{"b", false}) || m.alive("b") || !m.alive("a") {
			t.Errorf("%s: got %v, want b dead", what, got)
		}
	}
	lives := func(t *testing.T, what string, got []change) {
		t.Helper()
		if len(got) != 0 || !m.alive("a") || !m.alive("b") {
			t.Errorf("%s: got %v, want no change", what, got)
		}
	}
	at := func(seq uint64, id string) lease {
		return lease{instance{ID: id, Lease: testLease}, seq, time.Unix(100, 0)}
	}
	see(0, at(1, "a"), at(2, "b"))
	lives(t, "one renewal is missing", see(testLease/2, at(3, "a"), at(2, "b")))
	dies(t, "the lease is over", see(testLease/2, at(4, "a"), at(2, "b")))
	if got := see(testLease, at(5, "a"), at(2, "b")); len(got) != 0 {
		t.Errorf("an old key of a dead instance: got %v", got)
	}
	if got := see(0, at(6, "a"), at(7, "b")); len(got) != 1 || !m.alive("b") {
		t.Errorf("b renews its lease: got %v", got)
	}

	m.lostView() // while the bucket cannot be reached, no instance can renew its lease
	lives(t, "the first look after an outage", see(5*testLease, at(8, "a"), at(7, "b")))
	lives(t, "the key is lost with the bucket", see(testLease/2, at(1, "a")))
	dies(t, "a lease's time after the outage", see(testLease/2, at(2, "a")))

	see(0, at(3, "a"), at(4, "b"))
	gone := at(5, "b")
	gone.Leaving = true
	see(0, at(6, "a"), gone)
	dies(t, "b has announced that it leaves", see(0, at(7, "a")))

	old := at(9, "c")
	old.at = old.at.Add(-testLease)
	if got := see(0, at(8, "a"), old); len(got) != 0 || m.alive("c") {
		t.Errorf("the key of an instance that died before: got %v", got)
	}
}
