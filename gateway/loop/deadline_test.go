package loop_test

import (
	"testing"
	"time"

	"roomcast/gateway/loop"
)

func TestDeadlines(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		due := make(chan time.Time, 10)
		h := &script{}
		h.opened = func(id loop.ID) { // put off, brought forward, unset, set
			now := h.l.Now()
			h.l.SetDeadline(id, now.Add(time.Hour))
			h.l.SetDeadline(id, now.Add(200*time.Millisecond))
			h.l.SetDeadline(id, now.Add(100*time.Millisecond))
			h.l.SetDeadline(id, time.Time{})
			h.l.SetDeadline(id, now.Add(450*time.Millisecond))
		}
		h.due = func(id loop.ID) { due <- time.Now() }
		addr := serve(t, cfg, h)
		begin := time.Now()
		dial(t, addr)
		took := (<-due).Sub(begin)
		if took < 450*time.Millisecond || took > 950*time.Millisecond {
			t.Errorf("due after %v, want 450 to 650 ms", took)
		}
		// It was unset by coming due; a past one comes due at once.
		begin = time.Now()
		h.l.Post(func() { h.l.SetDeadline(h.conns()[0], begin.Add(-time.Hour)) })
		if took = (<-due).Sub(begin); took > 500*time.Millisecond {
			t.Errorf("a past deadline came due after %v", took)
		}
		if len(due) > 0 {
			t.Error("due more than once")
		}
	})
}
