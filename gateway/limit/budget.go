package limit

import (
	"context"
	"sync/atomic"
	"time"
)

// Use is what memory is held for. Every byte has one use and one owner, who gives it back.
type Use uint8

// The uses.
const (
	Rings      Use = iota // events for the members of a room, encoded once for all of them
	Queues                // what waits for one connection alone
	Inboxes               // deliveries that wait for a loop
	Pages                 // parts of the log for catch-ups and history, and room for those being read
	Messages              // messages that have come in part, or wait because their sender is held back
	Handshakes            // requests that have come in part, and TLS handshakes
	Says                  // messages that wait to be stored, and signals that wait to be sent
	Rooms                 // what a room costs that is followed
	uses
)

var useNames = [uses]string{"rings", "queues", "inboxes", "pages", "messages", "handshakes", "says", "rooms"}

// String returns the use's name in metrics.
func (u Use) String() string { return useNames[u] }

// Uses returns all uses.
func Uses() (list []Use) {
	for u := range uses {
		list = append(list, u)
	}
	return list
}

// Budget is the memory that one gateway holds for its members, in bytes. Take refuses what
// would exceed it; Add counts what cannot be refused, and its owners then look at Full. No
// use takes more than half, so that none shuts out the others. It is safe for concurrent
// use; loops and the bridge share one.
type Budget struct {
	most int64
	used atomic.Int64
	by   [uses]atomic.Int64
}

// NewBudget returns a budget of so many bytes that nothing has been taken from.
func NewBudget(most int64) *Budget { return &Budget{most: most} }

// Take takes n bytes and reports whether they fit; if not, nothing has been taken.
func (b *Budget) Take(u Use, n int) bool {
	if b.by[u].Add(int64(n)) > b.most/2 {
		b.by[u].Add(-int64(n))
		return false
	}
	if b.used.Add(int64(n)) > b.most {
		b.Add(u, -n)
		return false
	}
	return true
}

// Await takes n bytes as soon as they fit, or reports false when ctx ends before.
func (b *Budget) Await(ctx context.Context, u Use, n int) bool {
	for !b.Take(u, n) {
		wait := time.NewTimer(awaitAgain)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return false
		}
	}
	return true
}

// awaitAgain is how often Await looks.
const awaitAgain = 5 * time.Millisecond

// Has reports whether n bytes would fit now.
func (b *Budget) Has(u Use, n int) bool {
	return b.by[u].Load()+int64(n) <= b.most/2 && b.used.Load()+int64(n) <= b.most
}

// Add takes n bytes in any case, or gives back -n.
func (b *Budget) Add(u Use, n int) {
	b.by[u].Add(int64(n))
	b.used.Add(int64(n))
}

// Full reports whether nothing more fits.
func (b *Budget) Full() bool { return b.used.Load() >= b.most }

// Most returns the bytes that fit into the budget.
func (b *Budget) Most() int64 { return b.most }

// Used returns the bytes that are taken for a use.
func (b *Budget) Used(u Use) int64 { return b.by[u].Load() }

// partSlack is how many bytes a part may hold that the budget does not know of.
const partSlack = 32 << 10

// Part is what one owner holds of a budget for one use. It tells the budget only of larger
// changes, so that it can be asked for every buffer. It belongs to one goroutine.
type Part struct {
	budget *Budget
	use    Use
	held   int
	told   int
}

// Part returns an empty part of the budget.
func (b *Budget) Part(u Use) Part { return Part{budget: b, use: u} }

// Add takes n bytes in any case, or gives back -n.
func (p *Part) Add(n int) {
	if p.held += n; p.held-p.told > partSlack || p.told-p.held > partSlack {
		p.Settle()
	}
}

// Take takes n bytes and reports whether they fit; if not, nothing has been taken. Parts
// that take at the same moment may together exceed the budget by what they took.
func (p *Part) Take(n int) bool {
	if !p.budget.Has(p.use, p.held+n-p.told) {
		return false
	}
	p.Add(n)
	return true
}

// Held returns the bytes of the part.
func (p *Part) Held() int { return p.held }

// Settle tells the budget exactly what is held.
func (p *Part) Settle() {
	if p.held == p.told {
		return
	}
	p.budget.Add(p.use, p.held-p.told)
	p.told = p.held
}
