package bridge

import (
	"sync/atomic"

	"roomcast/gateway/limit"
	"roomcast/proto/history"
)

// Page is a page of history that is counted in the memory of the gateway until everybody
// who was given it has released it, each once. It is shared: nobody may change its records.
type Page struct {
	history.Page
	lease *lease
}

// Release gives back the page's memory. Its records are not used after that.
func (p *Page) Release() {
	if p.lease != nil {
		p.lease.give()
		p.lease = nil
	}
}

// NewPage returns a page that so many users are given, counted in memory.
func NewPage(p history.Page, memory *limit.Budget, users int) Page {
	if len(p.Records) == 0 || users == 0 {
		return Page{Page: p}
	}
	l := &lease{memory: memory, bytes: p.Bytes()}
	l.users.Store(int32(users))
	memory.Add(limit.Pages, l.bytes)
	return Page{Page: p, lease: l}
}

// lease is what one page takes of the budget. It is safe for concurrent use.
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

// readRoom is about how many bytes a read of a page needs while it is under way: what the
// page may hold, what is read and not in it, and the longest record.
func readRoom(q history.Query) int {
	bytes := q.Bytes
	if bytes <= 0 {
		bytes = history.MaxPageBytes
	}
	return 2*bytes + longestRecord
}

// longestRecord is about the longest record that there is, in bytes: a message of 256 KiB
// in base64.
const longestRecord = 384 << 10
