package loop

import "sync"

// postsPerTurn bounds the posted functions that run in one iteration, so that they do not delay
// connections, deadlines and Turn.
const postsPerTurn = 4096

// waker ends a loop's sleep. It makes a system call only if the loop sleeps. A call of wake while
// the loop works only makes the loop skip its next sleep. A waker is safe for concurrent use.
type waker struct {
	mu     sync.Mutex // guards the fields below
	end    func()     // ends the loop's poll; nil = the loop is not running
	asleep bool       // the loop sleeps, or will in a moment
	due    bool       // wake was called since the last call of rise
}

// start gives the waker the function that ends a poll. Any goroutine may call that function.
func (w *waker) start(end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end = end
}

// stop makes all later calls of wake do nothing.
func (w *waker) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end = nil
}

func (w *waker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = true
	if w.asleep && w.end != nil {
		w.asleep = false
		w.end() // with mu held: end writes to a descriptor, which the loop closes after stop
	}
}

// sleep marks the loop as asleep. It returns false if wake was called, so that the loop must not
// sleep.
func (w *waker) sleep() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep = !w.due
	return w.asleep
}

// rise marks the loop as awake. The loop calls it before it looks into its mailboxes. A writer
// puts its item into a mailbox before it calls wake. So the loop misses no item.
func (w *waker) rise() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep, w.due = false, false
}
