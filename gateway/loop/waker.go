package loop

import "sync"

// postsPerTurn bounds the posted functions that run before connections, deadlines and
// Turn get their turn again.
const postsPerTurn = 4096

// waker ends a loop's sleep. It makes a system call only if the loop sleeps. After a wake-up
// while the loop works, the loop does not go to sleep the next time. It is safe for concurrent use.
type waker struct {
	mu     sync.Mutex // guards the fields below
	end    func()     // ends the loop's poll; nil = the loop does not run
	asleep bool       // the loop sleeps, or will in a moment
	due    bool       // wake was called since the last rise
}

// start gives the waker the function that ends a poll from any goroutine.
func (w *waker) start(end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end = end
}

// stop makes all further wake-ups do nothing.
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
		w.end() // under the lock, because it writes to a descriptor that is closed after stop
	}
}

// sleep announces that the loop will wait. It returns false if there is work.
func (w *waker) sleep() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep = !w.due
	return w.asleep
}

// rise begins the loop's work. The loop looks into its mailboxes after this, so it finds the
// work of every earlier wake-up.
func (w *waker) rise() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep, w.due = false, false
}
