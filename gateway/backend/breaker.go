package backend

import (
	"sync"
	"time"
)

// Bounds of a breaker.
const (
	maxFailures = 5 // in succession, after which the backend is left alone
	minPause    = time.Second
	maxPause    = 30 * time.Second
)

// A breaker leaves a backend alone that does not answer, so that no client waits for it and it
// can recover. After a pause it lets one question through: if that is answered, the backend is
// asked again; otherwise a pause twice as long follows. It is safe for concurrent use.
type breaker struct {
	mu       sync.Mutex // guards what follows
	failures int        // in succession
	pause    time.Duration
	until    time.Time // the end of the pause; zero = no pause
	trying   bool      // one question after the pause has no outcome yet
}

// allow reports whether a question may be asked now. Each question that it allows is counted.
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

// count counts the outcome of a question. Opened says that the first pause begins.
func (b *breaker) count(answered bool, now time.Time) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	switch {
	case answered:
		b.failures, b.pause, b.until, b.trying = 0, 0, time.Time{}, false
	case b.until.IsZero() && b.failures >= maxFailures:
		b.pause, b.until, opened = minPause, now.Add(minPause), true
	case b.trying: // otherwise it was asked before the pause
		b.pause = min(2*b.pause, maxPause)
		b.until, b.trying = now.Add(b.pause), false
	}
	return opened
}
