package reads

import (
	"sync/atomic"

	"roomcast/gateway/limit"
	"roomcast/proto/history"
)

// Page is a page of history that several users share. Its memory counts in the gateway's budget
// until every user has called Release. Nobody may change its records.
type Page struct {
	history.Page
	lease *lease
}

// Release says that the caller no longer uses the page and its records. A second call does
// nothing.
func (p *Page) Release() {
	if p.lease != nil {
		p.lease.give()
		p.lease = nil
	}
}

// NewPage returns a page for the given number of users, and takes its memory from the budget.
func NewPage(p history.Page, memory *limit.Budget, users int) Page {
	if len(p.Records) == 0 || users == 0 {
		return Page{Page: p}
	}
	l := &lease{memory: memory, bytes: p.Bytes()}
	l.users.Store(int32(users))
	memory.Add(limit.Pages, l.bytes)
	return Page{Page: p, lease: l}
}

// lease is the memory of one page in the budget. It is safe for concurrent use.
type lease struct {
	memory *limit.Budget
	bytes  int
	users  atomic.Int32
}

func (l *lease) give() {
	if l.users.Add(-1) == 0 {
		l.memory.Add(limit.Pages, -l.bytes)
	}
}

// pageBytes returns roughly how much memory a read needs. This is twice the size of the page, plus
// the size of the longest record. The page counts twice, because the answer of NATS contains it
// too.
func pageBytes(q history.Query) int {
	bytes := q.Bytes
	if bytes <= 0 {
		bytes = history.MaxPageBytes
	}
	return 2*bytes + longestRecord
}

// longestRecord is roughly the length of the longest record: a message of 256 KiB in base64.
const longestRecord = 384 << 10
