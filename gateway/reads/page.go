package reads

import (
	"sync/atomic"

	"roomcast/gateway/limit"
	"roomcast/proto/history"
)

// Page is a page of history that several users share. It counts in the gateway's memory
// until each of them has released it. Nobody may change its records.
type Page struct {
	history.Page
	lease *lease
}

// Release gives back the caller's share of the page. The caller does not use the records
// after that. A second call does nothing.
func (p *Page) Release() {
	if p.lease != nil {
		p.lease.give()
		p.lease = nil
	}
}

// NewPage returns a page for that many users, and counts it in memory.
func NewPage(p history.Page, memory *limit.Budget, users int) Page {
	if len(p.Records) == 0 || users == 0 {
		return Page{Page: p}
	}
	l := &lease{memory: memory, bytes: p.Bytes()}
	l.users.Store(int32(users))
	memory.Add(limit.Pages, l.bytes)
	return Page{Page: p, lease: l}
}

// lease is the memory of one page. It is safe for concurrent use.
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

// pageBytes is about what a read needs while it is under way, in bytes: what the page may
// hold, what the log returns beyond that, and the longest record.
func pageBytes(q history.Query) int {
	bytes := q.Bytes
	if bytes <= 0 {
		bytes = history.MaxPageBytes
	}
	return 2*bytes + longestRecord
}

// longestRecord is about the length of the longest record, in bytes: a message of 256 KiB
// in base64.
const longestRecord = 384 << 10
