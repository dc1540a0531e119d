package limit

import (
	"slices"
	"time"

	"roomcast/proto"
)

// Resends keeps the order of one sender's messages in one room. After a message was refused
// temporarily, Resends refuses the later messages too, until the sender sends the first message
// again. Otherwise the later messages would be stored before the first. If the sender does not
// send the first message again in time, Resends forgets all of them.
//
// The zero Resends is empty. One goroutine owns it.
type Resends struct {
	why     *proto.Refusal // why the first message was refused; the later ones get its code and its Retry
	waiting []resend       // the refused messages, in the order of the sender; at most maxResends
}

type resend struct {
	key string
	due time.Time // when the sender should send it again
}

const (
	// maxResends is how many messages are remembered. Check refuses further messages too. But
	// these keep their order only if the sender waits for the first message.
	maxResends = 256
	// resendGrace is how long Resends waits for a message after the time at which the sender
	// should send it again.
	resendGrace = 2 * time.Second
	// resendStep is the time between two refused messages when the sender sends them again.
	resendStep = 50 * time.Millisecond
)

// Empty reports whether Resends waits for no message.
func (r *Resends) Empty(now time.Time) bool {
	if len(r.waiting) > 0 && now.After(r.waiting[0].due.Add(resendGrace)) {
		r.waiting, r.why = nil, nil
	}
	return len(r.waiting) == 0
}

// Check returns nil if the message with this key may be accepted now. Otherwise it returns a
// refusal and remembers the message. A message without a key cannot be remembered, because
// Resends could not recognise it when it is sent again.
func (r *Resends) Check(key string, now time.Time) *proto.Refusal {
	if r.Empty(now) || key != "" && key == r.waiting[0].key {
		return nil
	}
	return r.add(key, r.behind(), now)
}

// behind returns the refusal for a message that must wait for the first one in waiting.
func (r *Resends) behind() *proto.Refusal { return Behind(r.waiting[0].key, r.why) }

// Behind returns the refusal for a message that must wait for an earlier one. The earlier message
// has the given key and was refused with why. The sender must first send that message again.
func Behind(key string, why *proto.Refusal) *proto.Refusal {
	return proto.Refuse(why.Code, "first send your earlier message (key %s) again, which was refused as %s; then send this one again", key, why.Code).After(why.Retry)
}

// Taken records that the message with this key was accepted. Before, Check must have returned nil
// for the message.
func (r *Resends) Taken(key string) {
	if len(r.waiting) > 0 && key == r.waiting[0].key {
		r.waiting = slices.Delete(r.waiting, 0, 1)
	}
}

// Refused records that a message was refused temporarily. It returns the refusal to send.
func (r *Resends) Refused(key string, why *proto.Refusal, now time.Time) *proto.Refusal {
	if r.Empty(now) || key == r.waiting[0].key {
		r.why = why
		return r.add(key, why, now)
	}
	return r.add(key, r.behind(), now)
}

// Returned records that messages were accepted first, but then refused temporarily. They come
// before the messages that Check has refused.
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
