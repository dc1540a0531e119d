package limit

import (
	"net/netip"
	"testing"
	"time"
)

func TestBucketGivesItsBurst(t *testing.T) {
	r := Rate{PerSecond: 20, Burst: 40}
	for _, start := range []uint32{0, 1 << 31, ^uint32(0) - 100} {
		b := Bucket{at: start}
		for i := range 40 {
			if w := b.Take(start, r); w != 0 {
				t.Fatalf("start %d: message %d of the burst has to wait %v", start, i, w)
			}
		}
		w := b.Take(start, r)
		if w != 50*time.Millisecond {
			t.Errorf("start %d: got a wait of %v, want 50ms", start, w)
		}
		if w := b.Take(start+500, r); w != 0 {
			t.Errorf("start %d: after 500ms got a wait of %v, want 0", start, w)
		}
	}
}

// A bucket that is used every millisecond gives tokens at exactly its rate.
func TestBucketGivesItsRate(t *testing.T) {
	for _, perSecond := range []float64{0.5, 3, 20, 999, 5000} {
		r := Rate{PerSecond: perSecond, Burst: 10}
		var b Bucket
		got := 0
		for ms := range uint32(100_000) {
			for b.Take(ms, r) == 0 {
				got++
			}
		}
		want := perSecond*100 + 10
		if f := float64(got); f < want*0.98-1 || f > want*1.02+1 {
			t.Errorf("at %v/s got %d messages in 100 s, want about %v", perSecond, got, want)
		}
	}
}

func TestBucketWithoutARateGivesAll(t *testing.T) {
	var b Bucket
	for range 1000 {
		if b.Take(0, Rate{}) != 0 {
			t.Fatal("a bucket without a rate makes a message wait")
		}
	}
}

func TestCapsLimitConnections(t *testing.T) {
	now := time.Now()
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	c := NewCaps(CapsConfig{Total: 3, PerAddress: 2})
	for _, step := range []struct {
		peer netip.Addr
		ok   bool
	}{{a, true}, {netip.AddrFrom16(a.As16()), true}, {a, false}, {b, true}, {b, false}} {
		if r := c.Open(step.peer, now); (r == nil) != step.ok {
			t.Errorf("open from %v: got %v, want ok %v", step.peer, r, step.ok)
		}
	}
	if got := c.Count(); got != 3 {
		t.Errorf("got %d open, want 3", got)
	}
	c.Close(a)
	c.Close(a)
	c.Close(b)
	if c.Count() != 0 {
		t.Errorf("got %d open, want 0", c.Count())
	}
	for i := range c.shards {
		if len(c.shards[i].count) != 0 {
			t.Errorf("an address is still counted: %v", c.shards[i].count)
		}
	}
}

func TestCapsCountAnIPv6SubnetAsOneAddress(t *testing.T) {
	c := NewCaps(CapsConfig{PerAddress: 1})
	for _, step := range []struct {
		peer string
		ok   bool
	}{{"2001:db8::1", true}, {"2001:db8::2", false}, {"2001:db8:0:1::1", true}, {"fe80::1%eth0", true}, {"fe80::2%eth1", false}} {
		if r := c.Open(netip.MustParseAddr(step.peer), time.Now()); (r == nil) != step.ok {
			t.Errorf("open from %v: got %v, want ok %v", step.peer, r, step.ok)
		}
	}
}

func TestCapsLimitTheRate(t *testing.T) {
	now := time.Now()
	c := NewCaps(CapsConfig{PerSecond: 2})
	peer := netip.MustParseAddr("10.0.0.1")
	var got []bool
	for _, at := range []time.Duration{0, 0, 0, 600 * time.Millisecond} {
		got = append(got, c.Open(peer, now.Add(at)) == nil)
	}
	if want := []bool{true, true, false, true}; !equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func equal(a, b []bool) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

// A connection that exceeds the limit of its address must not count for the rate of all
// addresses.
func TestRefusedAddressUsesNoRate(t *testing.T) {
	c := NewCaps(CapsConfig{PerAddress: 2, PerSecond: 10})
	greedy, other := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("198.51.100.1")
	now := c.start.Add(time.Second)
	for i := range 100 {
		if r := c.Open(greedy, now); (r == nil) != (i < 2) {
			t.Fatalf("connection %d of one address: got %v", i, r)
		}
	}
	for i := range 8 {
		if r := c.Open(other, now); (r == nil) != (i < 2) {
			t.Errorf("connection %d of another address: got %v", i, r)
		}
	}
	if got := c.Refused(); got != 98+6 {
		t.Errorf("got %d refused, want 104", got)
	}
	if got := c.Count(); got != 4 {
		t.Errorf("got %d open, want 4", got)
	}
}

// A connection that exceeds the rate must not count as a connection.
func TestConnectionOverTheRateDoesNotCount(t *testing.T) {
	c := NewCaps(CapsConfig{PerAddress: 10, Total: 10, PerSecond: 1})
	peer := netip.MustParseAddr("203.0.113.9")
	now := c.start.Add(time.Second)
	for i := range 5 {
		if r := c.Open(peer, now); (r == nil) != (i == 0) {
			t.Errorf("connection %d: got %v", i, r)
		}
	}
	c.Close(peer)
	if n := len(c.shard(peer).count); n != 0 || c.Count() != 0 {
		t.Errorf("got %d addresses and %d connections, want none", n, c.Count())
	}
}

// Even a very large burst is bounded.
func TestLargeBurstIsBounded(t *testing.T) {
	for _, burst := range []int{13_107, 13_108, 100_000, 1_000_000} {
		var b Bucket
		n := 0
		for r := (Rate{PerSecond: 1, Burst: burst}); n <= burst+1 && b.Take(0, r) == 0; n++ {
		}
		if n < burst-burst/100 || n > burst { // float32 rounds the number
			t.Errorf("got %d of a burst of %d", n, burst)
		}
	}
}
