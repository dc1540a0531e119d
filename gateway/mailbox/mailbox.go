// Package mailbox hands work from any goroutine to the goroutine that owns some data. The
// gateway's goroutines use a [Box] for all work that they hand to each other.
package mailbox

import (
	"sync"
	"sync/atomic"
)

// Box is a queue with many writers and one reader. Put and Offer never block. The items of one
// writer keep their order. Put, Offer and Close are safe for concurrent use.
//
// [NewBounded] makes a box that bounds the total weight of the waiting items. A box made by
// [New] has no bound. The code that makes such a box says what bounds its items.
type Box[T any] struct {
	// static
	limit int           // bound of the weight; 0 = none
	wake  func()        // called when the box receives its first item after a Take
	bell  chan struct{} // contains a token while there may be items; nil if there is a wake function

	some atomic.Bool // whether the box has items; changed only with mu held

	mu     sync.Mutex // guards the fields below
	items  []T
	weight int // total weight of the items
	closed bool
}

// New returns an empty box without a bound. The reader waits on the channel of Wake.
func New[T any]() *Box[T] { return NewBounded[T](0, nil) }

// NewBounded returns an empty box that refuses an item if the total weight would exceed limit.
// When the box receives its first item after a Take, the writer's goroutine calls wake. The
// function wake must not block, and must not call methods of the box. If wake is nil, the reader
// waits on the channel of Wake.
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

// Put adds an item of weight 0, which fits under every limit. After Close, it drops the item and
// returns false.
func (b *Box[T]) Put(item T) bool { return b.Offer(item, 0) }

// Offer adds an item and returns true. If the weight would exceed the limit, or after Close, it
// drops the item and returns false. An empty box accepts an item of any weight.
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
		b.wake() // with mu held, so that wake is never called after Close
	}
	return true
}

// Wake returns a channel that delivers a value when there may be items to take. If the box has a
// wake function, the channel is nil.
func (b *Box[T]) Wake() <-chan struct{} { return b.bell }

// Empty reports whether the box is empty. It costs less than Take.
func (b *Box[T]) Empty() bool { return !b.some.Load() }

// keep is the largest capacity of a buffer that a box uses again. A burst of items needs a larger
// buffer, which the box frees after the burst.
const keep = 4096

// Take returns all items, in the order in which they were added. The parameter spare is a slice
// that the caller no longer needs. The box uses it as its next buffer.
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

// Close makes every later Put and Offer return false. It returns the items that were not taken.
func (b *Box[T]) Close() []T {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	return b.Take(nil)
}
