package limit

import (
	"slices"
	"time"

	"roomcast/proto"
)

// Resends keeps the order of one sender's messages in one room. While a message is
// refused for now, the later ones are refused too, until it comes again: otherwise they
// would be stored before it. A sender that does not send the first one again in time
// has given it up, and the others with it.
//
// The zero value holds nothing. It is owned by one goroutine.
type Resends struct {
	why     *proto.Refusal // why the first one was refused
	waiting []resend       // in the order in which they were first sent; at most maxResends
}

type resend struct {
	key string
	due time.Time // when the sender was told to send it again
}

const (
	// maxResends bounds the messages that are remembered. Further ones are refused as
	// well, but keep their order only if their sender waits for the first.
	maxResends = 256
	// resendGrace is how long after its time a message may come again.
	resendGrace = 2 * time.Second
	// resendStep is how much later each message is asked to come than the one before it.
	resendStep = 50 * time.Millisecond
)

// Empty reports whether no message has to come again.
func (r *Resends) Empty(now time.Time) bool {
	if len(r.waiting) > 0 && now.After(r.waiting[0].due.Add(resendGrace)) {
		r.waiting, r.why = nil, nil
	}
	return len(r.waiting) == 0
}

// Check returns nil if the message with this key may be taken now. Otherwise it returns
// the refusal, and remembers that this message has to come again too. A message without a
// key cannot be recognised and is only refused.
func (r *Resends) Check(key string, now time.Time) *proto.Refusal {
	if r.Empty(now) || key != "" && key == r.waiting[0].key {
		return nil
	}
	return r.add(key, r.why, now)
}

// Taken notes that the message that Check let through has been taken.
func (r *Resends) Taken(key string) {
	if len(r.waiting) > 0 && key == r.waiting[0].key {
		r.waiting = slices.Delete(r.waiting, 0, 1)
	}
}

// Refused notes that a message is refused for now, and returns the refusal for it.
func (r *Resends) Refused(key string, why *proto.Refusal, now time.Time) *proto.Refusal {
	if r.Empty(now) || key == r.waiting[0].key {
		r.why = why
	}
	return r.add(key, r.why, now)
}

// Returned notes that messages that had been taken are refused for now after all: they
// come before those that have not been taken.
func (r *Resends) Returned(keys []string, why *proto.Refusal, now time.Time) {
	r.Empty(now)
	due := now.Add(why.Retry)
	front := make([]resend, 0, len(keys)+len(r.waiting))
	for _, key := range keys {
		front = append(front, resend{key, due})
	}
	for _, w := range r.waiting {
		if !slices.Contains(keys, w.key) {
			front = append(front, w)
		}
	}
	r.waiting, r.why = front[:min(len(front), maxResends)], why
}

func (r *Resends) add(key string, why *proto.Refusal, now time.Time) *proto.Refusal {
	at := slices.IndexFunc(r.waiting, func(w resend) bool { return w.key == key })
	if at < 0 {
		at = len(r.waiting)
		if key != "" && at < maxResends {
			r.waiting = append(r.waiting, resend{key: key})
		}
	}
	why = why.After(why.Retry + time.Duration(at)*resendStep)
	if at < len(r.waiting) {
		r.waiting[at].due = now.Add(why.Retry)
	}
	return why
}
