package room

import (
	"strings"
	"time"

	"roomcast/proto"
)

// keys remembers the seq of each recent key of each sender. A key is forgotten after a window of
// time, or when its sender has given too many newer keys. It measures ages by Go's monotonic clock.
// So a jump of the wall clock does not remove a key too early, and does not keep a key for ever.
type keys struct {
	born    time.Time // the time of the first call of clock; other times count from this time
	senders map[string]*sender
	swept   time.Duration // time of the last sweep, since born
}

// sender holds the recent keys of one sender. byKey and order[first:] contain the same keys. In
// order, the oldest key comes first.
type sender struct {
	byKey map[string]stored
	order []aged
	first int
}

// aged is a key with the time of its record. The time is also here, because every message checks
// the time of the oldest key.
type aged struct {
	key  string
	seen time.Duration // since born
}

// stored is the record of a key.
type stored struct {
	seq    uint64
	at     int64         // the time of the record, in milliseconds since 1970
	seen   time.Duration // since born
	digest proto.Digest  // of the content that the key stands for
}

// clock converts a time to a duration since born.
func (k *keys) clock(now time.Time) time.Duration {
	if k.born.IsZero() {
		k.born = now
	}
	return now.Sub(k.born)
}

func (k *keys) find(from, key string, now time.Time, window time.Duration) (stored, bool) {
	who := k.senders[from]
	if who == nil {
		return stored{}, false
	}
	s, ok := who.byKey[key]
	return s, ok && k.clock(now)-s.seen <= window
}

func (k *keys) add(from, key string, s stored, rules *Rules) {
	if k.senders == nil {
		k.senders = make(map[string]*sender)
	}
	// This sweep also removes senders that never return.
	if s.seen-k.swept > rules.Window {
		k.sweep(s.seen, rules.Window)
	}
	who := k.senders[from]
	if who == nil {
		who = &sender{byKey: make(map[string]stored)}
		k.senders[strings.Clone(from)] = who
	}
	who.drop(s.seen - rules.Window)
	if len(who.byKey) >= rules.Keys {
		who.oldest()
	}
	if _, again := who.byKey[key]; !again {
		key = strings.Clone(key) // key is a part of a header, which must not stay in memory
		who.order = append(who.order, aged{key, s.seen})
	}
	who.byKey[key] = s
}

// expire forgets the keys that are older than the window.
func (k *keys) expire(now time.Time, window time.Duration) { k.sweep(k.clock(now), window) }

func (k *keys) sweep(at, window time.Duration) {
	k.swept = at
	for id, who := range k.senders {
		if who.drop(at - window); len(who.byKey) == 0 {
			delete(k.senders, id)
		}
	}
}

func (k *keys) len() (n int) {
	for _, who := range k.senders {
		n += len(who.byKey)
	}
	return n
}

// drop forgets the keys that were seen before a time.
func (s *sender) drop(before time.Duration) {
	for s.first < len(s.order) && s.order[s.first].seen < before {
		s.oldest()
	}
}

// oldest forgets the oldest key. When most of order is forgotten, it frees that part.
func (s *sender) oldest() {
	if s.first == len(s.order) {
		return
	}
	delete(s.byKey, s.order[s.first].key)
	s.order[s.first] = aged{}
	if s.first++; s.first*2 > len(s.order) {
		s.order = append(s.order[:0], s.order[s.first:]...)
		s.first = 0
	}
}
