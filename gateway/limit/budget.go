package limit

import (
	"context"
	"sync/atomic"
	"time"
)

// Use is a purpose of memory. Every byte has one use and one owner, which returns it.
type Use uint8

// The uses.
const (
	Rings      Use = iota // encoded events, which all members of a room share
	Queues                // data that waits for one connection
	Inboxes               // deliveries that wait for an event loop
	Pages                 // pages of the log, and reservations for reads of pages
	Messages              // incomplete messages, and messages of senders over their rate
	Handshakes            // incomplete requests, and TLS handshakes
	Says                  // messages before they are stored, and signals before they are sent
	Rooms                 // followed rooms
	uses
)

var useNames = [uses]string{"rings", "queues", "inboxes", "pages", "messages", "handshakes", "says", "rooms"}

// String returns the name of the use in metrics.
func (u Use) String() string { return useNames[u] }

// Uses returns all uses.
func Uses() (list []Use) {
	for u := range uses {
		list = append(list, u)
	}
	return list
}

// Budget counts the memory that one gateway holds for its members, in bytes. Take fails if the
// bytes would exceed the limit. Add always succeeds, for memory that the gateway cannot refuse;
// its callers then check Full. Each use may take at most half of the budget, so that it cannot
// starve the others. A Budget is safe for concurrent use.
type Budget struct {
	most int64
	used atomic.Int64
	by   [uses]atomic.Int64
}

// NewBudget returns an unused budget of most bytes.
func NewBudget(most int64) *Budget { return &Budget{most: most} }

// Take takes n bytes and reports whether they fit. If not, it takes nothing.
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

// Await takes n bytes as soon as they fit. It reports false if ctx ends first.
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

// awaitAgain is the time between two attempts of Await.
const awaitAgain = 5 * time.Millisecond

// Has reports whether n more bytes would fit now.
func (b *Budget) Has(u Use, n int) bool {
	return b.by[u].Load()+int64(n) <= b.most/2 && b.used.Load()+int64(n) <= b.most
}

// Add takes n bytes even if they do not fit. A negative n returns bytes.
func (b *Budget) Add(u Use, n int) {
	b.by[u].Add(int64(n))
	b.used.Add(int64(n))
}

// Full reports whether the whole budget is in use.
func (b *Budget) Full() bool { return b.used.Load() >= b.most }

// Most returns the size of the budget in bytes.
func (b *Budget) Most() int64 { return b.most }

// Used returns the bytes of one use.
func (b *Budget) Used(u Use) int64 { return b.by[u].Load() }

// partSlack is how many bytes a part may gain or lose before it reports them to the budget.
const partSlack = 32 << 10

// Part is one owner's share of a budget for one use. It reports only larger changes to the
// budget. So it costs little to count every buffer. One goroutine owns it.
type Part struct {
	budget   *Budget
	use      Use
	held     int
	reported int
}

// Part returns an empty part of the budget.
func (b *Budget) Part(u Use) Part { return Part{budget: b, use: u} }

// Add takes n bytes even if they do not fit. A negative n returns bytes.
func (p *Part) Add(n int) {
	if p.held += n; p.held-p.reported > partSlack || p.reported-p.held > partSlack {
		p.Settle()
	}
}

// Take takes n bytes and reports whether they fit. If not, it takes nothing. Several parts that
// take at the same time may together exceed the budget.
func (p *Part) Take(n int) bool {
	if !p.budget.Has(p.use, p.held+n-p.reported) {
		return false
	}
	p.Add(n)
	return true
}

// Held returns the bytes that the part holds.
func (p *Part) Held() int { return p.held }

// Settle reports the exact number of held bytes to the budget.
func (p *Part) Settle() {
	if p.held == p.reported {
		return
	}
	p.budget.Add(p.use, p.held-p.reported)
	p.reported = p.held
}
