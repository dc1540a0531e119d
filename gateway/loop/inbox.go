package loop

import "sync"

// postsPerTurn bounds the posted functions run before connections, deadlines and
// Turn get their turn again.
const postsPerTurn = 4096

// inbox is how other goroutines reach a loop: functions to run on it, in order.
// It wakes a loop only if that sleeps or is about to.
type inbox struct {
	mu       sync.Mutex // guards what follows
	waiting  []func()
	wake     func() // nil if the loop does not run
	sleeping bool   // or about to; whoever finds it true clears it and wakes

	// Owned by the loop.
	batch []func() // taken from waiting, to be run
	done  int      // of batch
}

// open lets functions in; wake must end the loop's poll from any goroutine.
func (b *inbox) open(wake func()) {
	b.mu.Lock()
	b.wake = wake
	b.mu.Unlock()
}

// close turns everything away from now on and forgets what waits.
func (b *inbox) close() {
	b.mu.Lock()
	b.wake, b.waiting = nil, nil
	b.mu.Unlock()
}

// post adds f, unless limit functions wait already or nobody would run it.
func (b *inbox) post(f func(), limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wake == nil || len(b.waiting) >= limit {
		return false
	}
	b.waiting = append(b.waiting, f)
	if b.sleeping {
		b.sleeping = false
		b.wake() // under the lock, so that no wake-up comes after close
	}
	return true
}

// sleep announces that the loop is about to wait; false if there is work.
func (b *inbox) sleep() bool {
	if b.done < len(b.batch) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sleeping = len(b.waiting) == 0
	return b.sleeping
}

// run runs what had been posted when it was called, or the first of it; what
// these functions post themselves waits for the next iteration.
func (b *inbox) run() {
	b.mu.Lock()
	b.sleeping = false
	if b.done == len(b.batch) {
		spare := b.batch[:0]
		if cap(spare) > postsPerTurn {
			spare = nil // a burst's memory is not kept
		}
		b.batch, b.waiting, b.done = b.waiting, spare, 0
	}
	b.mu.Unlock()
	for end := min(len(b.batch), b.done+postsPerTurn); b.done < end; {
		f := b.batch[b.done]
		b.batch[b.done] = nil
		b.done++
		f()
	}
}
