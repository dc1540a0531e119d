package limit

import (
	"context"
	"sync/atomic"
	"time"
)

// Use is a purpose for which a gateway uses memory. Each byte has one use, and one owner that
// must give it back.
type Use uint8

// The uses.
const (
	Rings      Use = iota // encoded events, which all members of a room share
	Queues                // bytes that wait for one connection
	Inboxes               // deliveries that wait for an event loop
	Pages                 // pages of the log, and memory reserved for reading pages
	Messages              // incomplete messages, and messages of senders that exceed their rate
	Handshakes            // incomplete requests, and TLS handshakes
	Says                  // messages that were not stored yet, and signals that were not sent yet
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

// Budget counts the memory that one gateway uses for its members, in bytes. Take fails if the
// bytes would exceed the limit. Add always succeeds. The gateway uses it for memory that it
// cannot refuse, and checks Full afterwards. Take gives each use at most half of the budget,
// which leaves memory for the other uses. A Budget is safe for concurrent use.
type Budget struct {
	most int64
	used atomic.Int64
	by   [uses]atomic.Int64
}

// NewBudget returns an empty budget with a limit of most bytes.
func NewBudget(most int64) *Budget { return &Budget{most: most} }

// Take takes n bytes and reports whether they fit into the budget. If they do not, it takes
// nothing.
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

// Await waits until n bytes fit, and takes them. It returns false if ctx ends first.
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

// Spare reports whether there is memory for unusually long data. There is none if the use already
// takes a quarter of the budget, or all uses together take three quarters. Without this rule,
// long data could leave no memory for data of the usual length.
func (b *Budget) Spare(u Use) bool {
	return b.by[u].Load() < b.most/4 && b.used.Load() < b.most*3/4
}

// Add takes n bytes even if they do not fit. If n is negative, it gives bytes back.
func (b *Budget) Add(u Use, n int) {
	b.by[u].Add(int64(n))
	b.used.Add(int64(n))
}

// Full reports whether the whole budget is in use.
func (b *Budget) Full() bool { return b.used.Load() >= b.most }

// Most returns the limit of the budget in bytes.
func (b *Budget) Most() int64 { return b.most }

// Used returns how many bytes the use takes.
func (b *Budget) Used(u Use) int64 { return b.by[u].Load() }

// partSlack is how many bytes a part may take or give back before it reports this to the budget.
const partSlack = 32 << 10

// Part is the memory that one owner takes from a budget for one use. It does not report small
// changes to the budget at once, so that counting every buffer costs little. One goroutine owns
// it.
type Part struct {
	budget   *Budget
	use      Use
	held     int
	reported int
}

// Part returns an empty part of the budget.
func (b *Budget) Part(u Use) Part { return Part{budget: b, use: u} }

// Add takes n bytes even if they do not fit. If n is negative, it gives bytes back.
func (p *Part) Add(n int) {
	if p.held += n; p.held-p.reported > partSlack || p.reported-p.held > partSlack {
		p.Settle()
	}
}

// Take takes n bytes and reports whether they fit. If they do not, it takes nothing. If several
// parts take bytes at the same moment, they may together exceed the budget.
func (p *Part) Take(n int) bool {
	if !p.budget.Has(p.use, p.held+n-p.reported) {
		return false
	}
	p.Add(n)
	return true
}

// Held returns how many bytes the part has taken.
func (p *Part) Held() int { return p.held }

// Settle reports to the budget exactly how many bytes the part has taken.
func (p *Part) Settle() {
	if p.held == p.reported {
		return
	}
	p.budget.Add(p.use, p.held-p.reported)
	p.reported = p.held
}
