// Package limit limits what clients may use: messages per second, connections, and memory.
package limit

import "time"

// Rate is the permitted rate of messages: Burst at once, and PerSecond on average.
type Rate struct {
	PerSecond float64 // 0 = no limit
	Burst     int     // at least 1
}

// Bucket is the token bucket of one connection. It has eight bytes and contains no pointer. The
// zero Bucket is full. One goroutine owns it.
type Bucket struct {
	at    uint32  // time in milliseconds of the owner's clock, which may wrap
	spent float32 // how many tokens are missing, in thousandths
}

// Take takes one token, or returns the time until there is one. The parameter now is a time in
// milliseconds from any start. It wraps after 49 days. If a bucket was idle for that long, Take
// may wrongly delay one message.
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
	// No factor is needed: spent is in thousandths of a token, and the clock counts thousandths
	// of a second.
	b.spent = max(0, b.spent-float32(float64(now-b.at)*r.PerSecond))
	b.at = now
}

// Owe takes a token even if there is none. It is for a message that was accepted without a token.
func (b *Bucket) Owe() { b.spent += 1000 }
