package owner

import (
	"fmt"
	"testing"
	"time"

	"roomcast/proto"
)

func lives(ids ...string) (there []instance) {
	for _, id := range ids {
		there = append(there, instance{ID: id})
	}
	return there
}

// owners returns who is chosen for each partition, each asked by its own view.
func owners(t *testing.T, ids ...string) (out [proto.Partitions]string) {
	t.Helper()
	for p := range out {
		for _, id := range ids {
			var m members
			m.see(lives(ids...), time.Now(), time.Second)
			if m.chosen(p, id) {
				if out[p] != "" {
					t.Fatalf("partition %d: %s and %s are chosen", p, out[p], id)
				}
				out[p] = id
			}
		}
		if out[p] == "" {
			t.Fatalf("partition %d: nobody is chosen of %v", p, ids)
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
			// Who comes takes its share, and nothing moves between the others.
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

func TestWhoLeavesIsNotChosen(t *testing.T) {
	var m members
	m.see([]instance{{ID: "a"}, {ID: "b", Leaving: true}}, time.Now(), time.Second)
	for p := range proto.Partitions {
		if !m.chosen(p, "a") {
			t.Errorf("partition %d is b's, which leaves", p)
		}
	}
	if !m.alive("b") || !m.alone("a") || m.alone("b") {
		t.Error("b is to be asked for its partitions, and nothing to be left to it")
	}
}

func TestNobodyDiesOfABlindMoment(t *testing.T) {
	const lease = 2 * time.Second
	var m members
	now := time.Unix(0, 0)
	step := func(after time.Duration, there ...string) []change {
		now = now.Add(after)
		return m.see(lives(there...), now, lease)
	}
	step(0, "a", "b")
	if got := step(lease, "a"); len(got) != 1 || got[0].id != "b" || got[0].alive {
		t.Errorf("b's lease is over: got %v", got)
	}
	step(0, "a", "b")
	m.blind() // the bucket is away, and all leases with it
	if got := step(5*time.Second, "a"); len(got) != 0 || !m.alive("b") {
		t.Errorf("the first look after an outage: got %v", got)
	}
	if got := step(lease/2, "a", "b"); len(got) != 0 {
		t.Errorf("b is back: got %v", got)
	}
	m.blind()
	step(0, "a")
	if got := step(lease, "a"); len(got) != 1 || got[0].alive {
		t.Errorf("b is still away after a lease's time: got %v", got)
	}
}
