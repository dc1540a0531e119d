// Package mailbox hands work from any goroutine to the one goroutine that owns the data
// which the work is about.
package mailbox

import "sync"

// Box is a queue with many writers and one reader. Put never blocks, so a box is as long
// as its users let it become: each of them documents what bounds it.
//
// The reader waits on Wake and then calls Take. Put and Close are safe for concurrent use.
type Box[T any] struct {
	wake chan struct{} // holds a token while there may be something to take

	mu     sync.Mutex // guards what follows
	items  []T
	closed bool
}

// New returns an empty box.
func New[T any]() *Box[T] { return &Box[T]{wake: make(chan struct{}, 1)} }

// Put adds an item. After Close it keeps nothing and reports false.
func (b *Box[T]) Put(item T) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.items = append(b.items, item)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// Wake returns a channel that delivers a value when there may be something to take.
func (b *Box[T]) Wake() <-chan struct{} { return b.wake }

// Take returns all items in the order in which they were put. The box keeps spare, a slice
// that the caller no longer needs, as its next buffer.
func (b *Box[T]) Take(spare []T) []T {
	clear(spare)
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = spare[:0]
	return items
}

// Close makes every later Put report false, and returns the items that nobody has taken.
func (b *Box[T]) Close() []T {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	return b.Take(nil)
}
