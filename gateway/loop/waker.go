package loop

import "sync"

// postsPerTurn bounds the posted functions that run before connections, deadlines and
// Turn get their turn again.
const postsPerTurn = 4096

// waker ends a loop's sleep, and only then costs a system call. A wake-up that comes while
// the loop works keeps it from going to sleep afterwards. It is safe for concurrent use.
type waker struct {
	mu     sync.Mutex // guards what follows
	end    func()     // ends the loop's poll; nil if the loop does not run
	asleep bool       // or about to be
	due    bool       // somebody has called wake since the last rise
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
		w.end() // under the lock: the descriptor that it writes to may be closed after stop
	}
}

// sleep announces that the loop is about to wait. It returns false if there is work.
func (w *waker) sleep() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep = !w.due
	return w.asleep
}

// rise begins the loop's work. The loop looks into its mailboxes after this, so no work of
// an earlier wake-up is missed.
func (w *waker) rise() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep, w.due = false, false
}
