// Package limit says when something is too much: messages of one connection, and
// connections of one address or altogether.
package limit

import "time"

// Rate is how fast messages may come: Burst at once, PerSecond in the long run.
type Rate struct {
	PerSecond float64 // 0 = no limit
	Burst     int     // 1 at least
}

// Bucket is one connection's token bucket, in eight bytes without a pointer. The zero
// Bucket is full. It is owned by one goroutine.
type Bucket struct {
	at    uint32  // milliseconds of the owner's clock, which may wrap
	spent float32 // thousandths of a token that have not come back yet
}

// Take takes one token, or says how long it takes until there is one. Now counts
// milliseconds from any beginning. A bucket not asked for 49 days counts as asked
// lately, which can only delay a single message.
func (b *Bucket) Take(now uint32, r Rate) (wait time.Duration) {
	if r.PerSecond <= 0 {
		return 0
	}
	b.refill(now, r)
	room := float64(max(r.Burst, 1)) * 1000
	if over := float64(b.spent) + 1000 - room; over > 0 {
		return max(time.Millisecond, time.Duration(over/r.PerSecond*float64(time.Millisecond)))
	}
	b.spent += 1000
	return 0
}

func (b *Bucket) refill(now uint32, r Rate) {
	// Thousandths of a token a second are tokens a millisecond.
	b.spent = max(0, b.spent-float32(float64(now-b.at)*r.PerSecond))
	b.at = now
}

// Owe takes a token that is not there, for what cannot be refused any more.
func (b *Bucket) Owe() { b.spent += 1000 }
