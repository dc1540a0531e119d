package backend

import (
	"sync"
	"time"
)

// Limits for a breaker.
const (
	maxFailures = 5 // failures in a row before the first pause
	minPause    = time.Second
	maxPause    = 30 * time.Second
)

// breaker stops asking a backend that does not answer. So clients do not wait for the backend,
// and the backend can recover. After a pause, the breaker allows one question. If the backend
// answers this question, the breaker allows all questions again. Otherwise the breaker pauses
// twice as long. It is safe for concurrent use.
type breaker struct {
	mu       sync.Mutex // guards the fields below
	failures int        // failures in a row
	pause    time.Duration
	until    time.Time // end of the pause; zero = there is no pause
	trying   bool      // the one question after the pause has no result yet
}

// allow reports whether a question may be asked now. If it returns true, the caller must later
// call count.
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

// count counts the result of a question. It returns true if this result begins the first pause.
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
