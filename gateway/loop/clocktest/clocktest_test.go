package clocktest

import (
	"testing"
	"time"
)

func TestSetMovesOnlyTheWallReading(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, 0} {
		now := time.Now()
		got := Set(now, by)
		if got.Unix() != now.Unix()+int64(by/time.Second) || got.Nanosecond() != now.Nanosecond() {
			t.Errorf("set by %v: got %v of %v", by, got, now)
		}
		if d := got.Sub(now); d != 0 {
			t.Errorf("set by %v: the monotonic reading moved by %v", by, d)
		}
	}
}
