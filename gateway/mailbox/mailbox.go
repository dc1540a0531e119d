// Package mailbox hands work from any goroutine to the goroutine that owns the data. The
// gateway's loops and goroutines hand all their work to each other through a [Box].
package mailbox

import (
	"sync"
	"sync/atomic"
)

// Box is a queue with many writers and one reader. Put and Offer never block, and the items of a
// writer keep their order. Put, Offer and Close are safe for concurrent use.
//
// [NewBounded] makes a box that bounds the weight of the waiting items. A box of [New] has no
// bound of its own; its user documents what bounds it.
type Box[T any] struct {
	// static
	limit int           // of weight
	wake  func()        // called when the first item arrives after a Take
	bell  chan struct{} // holds a token while there may be items; nil for a box with a wake function

	some atomic.Bool // items is not empty; mu guards its changes

	mu     sync.Mutex // guards the fields below
	items  []T
	weight int // of items
	closed bool
}

// New returns an empty box without a bound. Its reader waits on Wake.
func New[T any]() *Box[T] { return NewBounded[T](0, nil) }

// NewBounded returns an empty box that refuses offers beyond a weight. When the first item
// arrives after a Take, the box calls wake from the writer's goroutine; wake must not block and
// must not use the box. If wake is nil, the reader waits on Wake.
func NewBounded[T any](limit int, wake func()) *Box[T] {
	b := &Box[T]{limit: limit, wake: wake}
	if wake == nil {
		b.bell = make(chan struct{}, 1)
		b.wake = b.ring
	}
	return b
}

func (b *Box[T]) ring() {
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

// Put adds an item without weight, which always fits. After Close it drops the item and returns
// false.
func (b *Box[T]) Put(item T) bool { return b.Offer(item, 0) }

// Offer adds an item. If the item's weight does not fit, or after Close, it drops the item and
// returns false. An item always fits into an empty box.
func (b *Box[T]) Offer(item T, weight int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.weight > 0 && weight > 0 && b.weight+weight > b.limit {
		return false
	}
	b.weight += weight
	b.items = append(b.items, item)
	if len(b.items) == 1 {
		b.some.Store(true)
		b.wake() // under the lock, so that it is not called after Close
	}
	return true
}

// Wake returns a channel that delivers a value when there may be items to take. It is nil for a
// box with a wake function.
func (b *Box[T]) Wake() <-chan struct{} { return b.bell }

// Empty reports whether the box is empty. It costs the reader less than Take.
func (b *Box[T]) Empty() bool { return !b.some.Load() }

// keep is the largest capacity of a buffer that a box uses again. A box frees the memory of a
// burst of items.
const keep = 4096

// Take returns all items in the order in which they were put. The box keeps spare, a slice
// that the caller no longer needs, as its next buffer.
func (b *Box[T]) Take(spare []T) []T {
	clear(spare)
	if cap(spare) > keep {
		spare = nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items, b.weight = spare[:0], 0
	b.some.Store(false)
	return items
}

// Close makes every later Put and Offer return false. It returns the items that the reader has
// not taken.
func (b *Box[T]) Close() []T {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	return b.Take(nil)
}
