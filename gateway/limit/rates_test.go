package limit

import (
	"fmt"
	"testing"
	"time"
)

func TestEachSenderHasItsOwnRate(t *testing.T) {
	rs, r := NewRates(), Rate{PerSecond: 2, Burst: 3}
	now := rs.start
	for i := range 4 {
		if wait := rs.Take("ann", r, now); (wait == 0) != (i < 3) {
			t.Errorf("message %d of ann waits %v", i, wait)
		}
	}
	if wait := rs.Take("ben", r, now); wait != 0 {
		t.Errorf("ben waits %v", wait)
	}
	if wait := rs.Take("ann", r, now.Add(500*time.Millisecond)); wait != 0 {
		t.Errorf("ann waits %v after half a second", wait)
	}
	if wait := rs.Take("ann", Rate{}, now); wait != 0 {
		t.Errorf("without a limit: waits %v", wait)
	}
}

func TestRememberedSendersAreBounded(t *testing.T) {
	rs, r := NewRates(), Rate{PerSecond: 1, Burst: 1}
	now := rs.start
	for i := range maxAddresses + 10 {
		rs.Take(fmt.Sprint(i), r, now)
	}
	if n := len(rs.senders); n != maxAddresses {
		t.Errorf("%d senders are remembered, want %d", n, maxAddresses)
	}
	if rs.Take("0", r, now) == 0 {
		t.Error("a remembered sender has no limit")
	}
	if rs.Take("late", r, now.Add(2*time.Second)); len(rs.senders) != 1 {
		t.Errorf("%d senders are remembered after their buckets are full, want 1", len(rs.senders))
	}
}
