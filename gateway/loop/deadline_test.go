package loop_test

import (
	"sync/atomic"
	"testing"
	"time"

	"roomcast/gateway/loop"
	"roomcast/gateway/loop/clocktest"
)

func TestDueFollowsTheLastDeadline(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		due := make(chan time.Time, 10)
		h := &script{}
		h.opened = func(id loop.ID) { // later, earlier, later again
			h.l.SetDeadline(id, time.Hour)
			h.l.SetDeadline(id, 200*time.Millisecond)
			h.l.SetDeadline(id, 100*time.Millisecond)
			h.l.SetDeadline(id, 450*time.Millisecond)
		}
		h.due = func(id loop.ID) { due <- time.Now() }
		addr := serve(t, cfg, h)
		begin := time.Now()
		dial(t, addr)
		took := (<-due).Sub(begin)
		if took < 450*time.Millisecond || took > 950*time.Millisecond {
			t.Errorf("due after %v, want 450 to 650 ms", took)
		}
		// The loop calls Due only once for a deadline, and at once for a deadline in the past.
		begin = time.Now()
		h.l.Post(func() { h.l.SetDeadline(h.conns()[0], -time.Hour) })
		if took = (<-due).Sub(begin); took > 500*time.Millisecond {
			t.Errorf("a past deadline came due after %v", took)
		}
		if len(due) > 0 {
			t.Error("due more than once")
		}
	})
}

// After a change of the system's clock, deadlines do not pass late. They do not pass too early
// either: the loop still sleeps until a deadline.
func TestDeadlinesIgnoreTheWallClock(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		eachBackend(t, func(t *testing.T, cfg loop.Config) {
			var offset atomic.Int64
			cfg.Clock = func() time.Time { return clocktest.Set(time.Now(), time.Duration(offset.Load())) }
			due := make(chan struct{}, 1)
			h := &script{}
			h.due = func(loop.ID) { due <- struct{}{} }
			addr := serve(t, cfg, h)
			c := dial(t, addr)
			echo(t, c, "before")
			offset.Store(int64(jump))
			turns := make(chan uint64, 2)
			h.l.Post(func() { turns <- h.l.Stats().Turns; h.l.SetDeadline(h.conns()[0], 2*time.Second) })
			begin := time.Now()
			select {
			case <-due:
			case <-time.After(10 * time.Second):
				t.Fatalf("clock set by %v: a deadline of 2 s did not come within 10 s", jump)
			}
			if took := time.Since(begin); took < 2*time.Second {
				t.Errorf("clock set by %v: a deadline of 2 s came after %v", jump, took)
			}
			h.l.Post(func() { turns <- h.l.Stats().Turns })
			if n := -<-turns + <-turns; n > 10 {
				t.Errorf("clock set by %v: a loop with one deadline made %d turns in 2 s", jump, n)
			}
		})
	}
}
