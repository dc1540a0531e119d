package limit

import (
	"sync"
	"time"
)

// Rates limits how often each of many senders may do something, for senders without a connection.
// It remembers a bounded number of senders, and does not limit further ones. It is safe for
// concurrent use.
type Rates struct {
	start time.Time // of the clock of buckets

	mu      sync.Mutex
	senders map[string]*sender // guarded by mu
}

type sender struct {
	bucket Bucket
	full   time.Time // when the bucket will be full again without another Take
}

// NewRates returns rates without senders.
func NewRates() *Rates { return &Rates{start: time.Now(), senders: make(map[string]*sender)} }

// Take counts one action of the sender at a rate. If the sender is too fast, Take counts nothing
// and returns the time to wait.
func (rs *Rates) Take(name string, rate Rate, now time.Time) (wait time.Duration) {
	if rate.PerSecond <= 0 {
		return 0
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	s := rs.senders[name]
	if s == nil {
		if len(rs.senders) >= maxAddresses {
			rs.sweep(now)
		}
		if len(rs.senders) >= maxAddresses {
			return 0
		}
		s = new(sender)
		rs.senders[name] = s
	}
	ms := uint32(now.Sub(rs.start).Milliseconds())
	if wait = s.bucket.Take(ms, rate); wait == 0 {
		s.full = now.Add(time.Duration(float64(s.bucket.spent) / rate.PerSecond * float64(time.Millisecond)))
	}
	return wait
}

// sweep forgets the senders whose buckets are full. The caller holds mu.
func (rs *Rates) sweep(now time.Time) {
	for name, s := range rs.senders {
		if !s.full.After(now) {
			delete(rs.senders, name)
		}
	}
}
