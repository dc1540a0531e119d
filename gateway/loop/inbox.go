package loop

import "sync"

// inbox is how other goroutines reach a loop: functions to run on it, in order.
// It wakes a loop only if that sleeps or is about to.
type inbox struct {
	mu       sync.Mutex // guards what follows
	waiting  []func()
	wake     func() // nil if the loop does not run
	sleeping bool   // or about to; whoever finds it true clears it and wakes

	running []func() // owned by the loop: the batch being run, to be reused
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

// sleep announces that the loop is about to wait; false if it should not.
func (b *inbox) sleep() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sleeping = len(b.waiting) == 0
	return b.sleeping
}

// run runs what had been posted when it was called; what these functions post
// themselves waits for the next iteration.
func (b *inbox) run() {
	b.mu.Lock()
	b.sleeping = false
	b.waiting, b.running = b.running[:0], b.waiting
	b.mu.Unlock()
	for i, f := range b.running {
		b.running[i] = nil
		f()
	}
	if cap(b.running) > 1024 {
		b.running = nil // a burst's memory is not kept
	}
}
