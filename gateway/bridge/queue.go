package bridge

import "sync"

// queue hands work from any goroutine to the one that owns what the work is about. It
// never blocks whoever puts something in; each user says what bounds it.
type queue[T any] struct {
	wake chan struct{} // has a token when there may be something

	mu     sync.Mutex
	items  []T
	closed bool
}

func newQueue[T any]() *queue[T] { return &queue[T]{wake: make(chan struct{}, 1)} }

// put reports false, and keeps nothing, after close.
func (q *queue[T]) put(item T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.items = append(q.items, item)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns everything that was put in, in order. Spare is a slice the caller no
// longer needs.
func (q *queue[T]) take(spare []T) []T {
	clear(spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = spare[:0]
	return items
}

// close refuses what comes from now on and returns what is left.
func (q *queue[T]) close() []T {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.take(nil)
}
