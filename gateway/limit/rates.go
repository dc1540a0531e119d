package limit

import (
	"sync"
	"time"
)

// Rates limits how often each of many senders may do something, over all connections of the
// sender. It remembers a bounded number of senders, and does not limit further senders. It is
// safe for concurrent use.
type Rates struct {
	start time.Time // the clock of the buckets counts from here

	mu      sync.Mutex
	senders map[string]*sender // guarded by mu
}

type sender struct {
	bucket Bucket
	full   time.Time // when the bucket will be full if Take is not called again
}

// NewRates returns a Rates without senders.
func NewRates() *Rates { return &Rates{start: time.Now(), senders: make(map[string]*sender)} }

// Take counts one action of the sender. If the sender exceeds the rate, Take counts nothing and
// returns how long the sender must wait.
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

// sweep removes the senders whose buckets are full. The caller holds mu.
func (rs *Rates) sweep(now time.Time) {
	for name, s := range rs.senders {
		if !s.full.After(now) {
			delete(rs.senders, name)
		}
	}
}
