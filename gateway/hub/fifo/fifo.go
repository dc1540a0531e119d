// Package fifo provides a queue for the work of a hub.
package fifo

// Queue is a first-in-first-out queue that reuses its memory. The zero Queue is empty. It is not
// safe for concurrent use.
type Queue[T any] struct {
	items []T
	first int
}

// Len returns the number of items in the queue.
func (q *Queue[T]) Len() int { return len(q.items) - q.first }

// Push adds an item.
func (q *Queue[T]) Push(v T) {
	if q.first > 32 && q.first > len(q.items)/2 {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// Pop removes and returns the oldest item. The queue must not be empty.
func (q *Queue[T]) Pop() T {
	v := q.items[q.first]
	q.first++
	if q.first == len(q.items) {
		clear(q.items)
		q.items, q.first = q.items[:0], 0
	}
	return v
}
