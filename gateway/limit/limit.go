// Package limit bounds what clients may use: messages a second, connections, and memory.
package limit

import "time"

// Rate is the permitted rate of messages: Burst at once, PerSecond on average.
type Rate struct {
	PerSecond float64 // 0 = no limit
	Burst     int     // at least 1
}

// Bucket is the token bucket of one connection, in eight bytes without a pointer. The zero
// Bucket is full. One goroutine owns it.
type Bucket struct {
	at    uint32  // milliseconds of the owner's clock, which may wrap
	spent float32 // missing tokens, in thousandths
}

// Take takes one token, or returns the time until there is one. Now counts milliseconds from any
// start, and wraps after 49 days. A bucket that was idle for so long may then delay one message.
func (b *Bucket) Take(now uint32, r Rate) (wait time.Duration) {
	if r.PerSecond <= 0 {
		return 0
	}
	b.refill(now, r)
	capacity := float64(max(r.Burst, 1)) * 1000
	if over := float64(b.spent) + 1000 - capacity; over > 0 {
		return max(time.Millisecond, time.Duration(over/r.PerSecond*float64(time.Millisecond)))
	}
	b.spent += 1000
	return 0
}

func (b *Bucket) refill(now uint32, r Rate) {
	// Spent is in thousandths of a token and the clock in milliseconds: no factor is needed.
	b.spent = max(0, b.spent-float32(float64(now-b.at)*r.PerSecond))
	b.at = now
}

// Owe takes a token even if there is none, for a message that was accepted before.
func (b *Bucket) Owe() { b.spent += 1000 }
