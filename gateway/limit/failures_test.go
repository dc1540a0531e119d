package limit

import (
	"net/netip"
	"testing"
	"time"
)

func TestAnAddressWaitsAfterTwentyFailures(t *testing.T) {
	var f Failures
	now := time.Now()
	peer, neighbour, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8:0:1::1")
	for i := range maxFailures {
		if wait := f.Wait(peer, now); wait != 0 {
			t.Fatalf("waits %v after %d failures", wait, i)
		}
		f.Add(peer, now)
	}
	if got := f.Wait(neighbour, now.Add(20*time.Second)); got != 40*time.Second {
		t.Errorf("the same /64 waits %v, want the rest of the minute", got)
	}
	if got := f.Wait(other, now); got != 0 {
		t.Errorf("another /64 waits %v", got)
	}
	if got := f.Wait(peer, now.Add(failurePeriod)); got != 0 {
		t.Errorf("after a minute: waits %v", got)
	}
	f.Add(peer, now.Add(failurePeriod))
	if got := f.Wait(peer, now.Add(failurePeriod)); got != 0 {
		t.Errorf("one failure after a minute: waits %v", got)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	var f Failures
	now := time.Now()
	add := func(n int, at time.Time) {
		for i := range n {
			f.Add(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), at)
		}
	}
	add(maxAddresses+10, now)
	if len(f.byAddress) != maxAddresses {
		t.Errorf("%d addresses are remembered, want %d", len(f.byAddress), maxAddresses)
	}
	f.Add(netip.MustParseAddr("192.0.2.1"), now.Add(failurePeriod))
	if len(f.byAddress) != 1 {
		t.Errorf("%d addresses are remembered after a minute, want 1", len(f.byAddress))
	}
}
