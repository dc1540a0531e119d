package backend

import (
	"sync"
	"time"
)

// Bounds of a breaker.
const (
	maxFailures = 5 // failures in succession before the first pause
	minPause    = time.Second
	maxPause    = 30 * time.Second
)

// A breaker stops the questions to a backend that does not answer, so that no client waits for it
// and it can recover. After a pause it allows one question. If the backend answers it, the breaker
// allows all questions again; otherwise a pause twice as long follows. It is safe for concurrent
// use.
type breaker struct {
	mu       sync.Mutex // guards the fields below
	failures int        // in succession
	pause    time.Duration
	until    time.Time // the end of the pause; zero = no pause
	trying   bool      // the one question after the pause has no outcome yet
}

// allow reports whether a question may be asked now. After each question that it allows, the caller
// calls count.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return true
	}
	if b.trying || now.Before(b.until) {
		return false
	}
	b.trying = true
	return true
}

// count counts the outcome of a question. Opened reports that the first pause begins.
func (b *breaker) count(answered bool, now time.Time) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	switch {
	case answered:
		b.failures, b.pause, b.until, b.trying = 0, 0, time.Time{}, false
	case b.until.IsZero() && b.failures >= maxFailures:
		b.pause, b.until, opened = minPause, now.Add(minPause), true
	case b.trying: // a question from before the pause changes nothing
		b.pause = min(2*b.pause, maxPause)
		b.until, b.trying = now.Add(b.pause), false
	}
	return opened
}
