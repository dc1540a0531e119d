// Package mailbox hands work from any goroutine to the one goroutine that owns the data
// which the work is about. Every hop between the gateway's loops and goroutines goes
// through a [Box].
package mailbox

import (
	"sync"
	"sync/atomic"
)

// Box is a queue with many writers and one reader. Put and Offer never block, and items of
// one writer keep their order. Put, Offer and Close are safe for concurrent use.
//
// A box made by [New] is as long as its users let it become: each of them documents what
// bounds it. A box made by [NewBounded] bounds the weight of what waits.
type Box[T any] struct {
	// static
	limit int           // of weight
	wake  func()        // called when the first item arrives after a Take
	bell  chan struct{} // holds a token while there may be something to take; nil if the user gave wake

	some atomic.Bool // items is not empty; changed under mu

	mu     sync.Mutex // guards the fields below
	items  []T
	weight int // of items
	closed bool
}

// New returns an empty box without a bound, whose reader waits on Wake.
func New[T any]() *Box[T] { return NewBounded[T](0, nil) }

// NewBounded returns an empty box that refuses offers beyond a weight. It calls wake, from
// the writer's goroutine, when the first item arrives after a Take; wake must not block and
// must not use the box. Without wake, the reader waits on Wake.
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

// Put adds an item of no weight, which always fits. After Close it keeps nothing and
// reports false.
func (b *Box[T]) Put(item T) bool { return b.Offer(item, 0) }

// Offer adds an item. It keeps nothing and reports false if the item's weight does not fit,
// or after Close. One item always fits, so a box that refuses is never empty.
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
		b.wake() // under the lock, so that no wake-up comes after Close
	}
	return true
}

// Wake returns a channel that delivers a value when there may be something to take. It is
// nil for a box with a wake function.
func (b *Box[T]) Wake() <-chan struct{} { return b.bell }

// Empty reports whether there is nothing to take. It costs the reader less than Take.
func (b *Box[T]) Empty() bool { return !b.some.Load() }

// keep is the largest number of items whose memory a box uses again. The memory of a burst
// is not kept.
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

// Close makes every later Put report false, and returns the items that nobody has taken.
func (b *Box[T]) Close() []T {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	return b.Take(nil)
}
