package limit

import (
	"slices"
	"time"

	"roomcast/proto"
)

// Resends keeps the order of one sender's messages in one room. After a temporary refusal it
// also refuses the later messages until the sender sends the first one again: otherwise they
// would be stored before it. A sender that does not resend in time has given up the first
// message, and the others with it.
//
// The zero value is empty. One goroutine owns it.
type Resends struct {
	why     *proto.Refusal // the refusal of the first message
	waiting []resend       // in the order of their first sending; at most maxResends
}

type resend struct {
	key string
	due time.Time // when the sender was asked to resend it
}

const (
	// maxResends limits the remembered messages. Further ones are refused too, but keep
	// their order only if the sender waits for the first.
	maxResends = 256
	// resendGrace is how long after its due time a message may be resent.
	resendGrace = 2 * time.Second
	// resendStep is the time between the due times of two messages.
	resendStep = 50 * time.Millisecond
)

// Empty reports whether no message has to be resent.
func (r *Resends) Empty(now time.Time) bool {
	if len(r.waiting) > 0 && now.After(r.waiting[0].due.Add(resendGrace)) {
		r.waiting, r.why = nil, nil
	}
	return len(r.waiting) == 0
}

// Check returns nil if the message with this key may be accepted now. Otherwise it returns
// a refusal and remembers that the message must be resent. A message without a key cannot be
// recognised and is only refused.
func (r *Resends) Check(key string, now time.Time) *proto.Refusal {
	if r.Empty(now) || key != "" && key == r.waiting[0].key {
		return nil
	}
	return r.add(key, r.why, now)
}

// Taken records that a message for which Check returned nil was accepted.
func (r *Resends) Taken(key string) {
	if len(r.waiting) > 0 && key == r.waiting[0].key {
		r.waiting = slices.Delete(r.waiting, 0, 1)
	}
}

// Refused records a temporary refusal of a message and returns the refusal to send.
func (r *Resends) Refused(key string, why *proto.Refusal, now time.Time) *proto.Refusal {
	if r.Empty(now) || key == r.waiting[0].key {
		r.why = why
	}
	return r.add(key, r.why, now)
}

// Returned records that accepted messages have been refused temporarily after all. They come
// before the messages that were not accepted.
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
