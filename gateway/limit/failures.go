package limit

import (
	"net/netip"
	"sync"
	"time"
)

// Limits for failures.
const (
	maxFailures   = 20 // failures that one address may have within failurePeriod
	failurePeriod = time.Minute
	maxAddresses  = 1 << 16 // addresses or senders that are remembered; further ones are not limited
)

// Failures counts refused credentials by address, so that nobody can try many of them. If it
// counted by id instead, an attacker could lock out the owner of an id. It is safe for concurrent
// use.
type Failures struct {
	mu        sync.Mutex
	byAddress map[netip.Addr]failures // guarded by mu
}

type failures struct {
	began time.Time
	n     int
}

// Wait returns how long the address must wait before it may present another credential. 0 means
// that it need not wait.
func (f *Failures) Wait(peer netip.Addr, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.byAddress[Group(peer)]; e.n >= maxFailures {
		return max(0, e.began.Add(failurePeriod).Sub(now))
	}
	return 0
}

// Add counts a refused credential for the address.
func (f *Failures) Add(peer netip.Addr, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := Group(peer)
	e, known := f.byAddress[key]
	if now.Sub(e.began) >= failurePeriod {
		e = failures{began: now}
	}
	if !known && len(f.byAddress) >= maxAddresses {
		f.sweep(now)
		if len(f.byAddress) >= maxAddresses {
			return
		}
	}
	if f.byAddress == nil {
		f.byAddress = make(map[netip.Addr]failures)
	}
	e.n++
	f.byAddress[key] = e
}

func (f *Failures) sweep(now time.Time) {
	for key, e := range f.byAddress {
		if now.Sub(e.began) >= failurePeriod {
			delete(f.byAddress, key)
		}
	}
}
