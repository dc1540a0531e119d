package proto

import (
	"maps"
	"time"
)

// MaxRestricted is the number of bans and mutes that a room holds together.
const MaxRestricted = 500

// Restrictions are the bans, the mutes and the slow mode of a room. They are immutable, and
// safe for concurrent use. A nil Restrictions restricts nobody.
type Restrictions struct {
	Epoch string // that Seq belongs to
	Seq   uint64 // of the newest act that they include

	// Bans and Mutes hold the end of each by the member's id, in milliseconds since 1970;
	// 0 = it has no end.
	Bans, Mutes map[string]int64
	Slow        time.Duration // in which a member may say one message; 0 = no limit
}

// Banned reports whether a ban of the id, or one of all guests, holds at a time.
func (r *Restrictions) Banned(id string, now time.Time) bool {
	return r != nil && holds(r.Bans, id, now)
}

// Muted reports whether a mute of the id, or one of all guests, holds at a time.
func (r *Restrictions) Muted(id string, now time.Time) bool {
	return r != nil && holds(r.Mutes, id, now)
}

func holds(list map[string]int64, id string, now time.Time) bool {
	if len(list) == 0 {
		return false
	}
	return lasts(list, id, now) || IsGuest(id) && lasts(list, Guests, now)
}

func lasts(list map[string]int64, id string, now time.Time) bool {
	end, found := list[id]
	return found && (end == 0 || now.UnixMilli() < end)
}

// Interval returns the time in which a member may say one message; 0 = there is no limit.
func (r *Restrictions) Interval() time.Duration {
	if r == nil {
		return 0
	}
	return r.Slow
}

// IsEmpty reports whether nobody is restricted at a time.
func (r *Restrictions) IsEmpty(now time.Time) bool {
	return r == nil || r.Slow == 0 && r.Count(now) == 0
}

// Count returns the number of bans and mutes that hold at a time.
func (r *Restrictions) Count(now time.Time) (n int) {
	if r == nil {
		return 0
	}
	for _, list := range []map[string]int64{r.Bans, r.Mutes} {
		for id := range list {
			if lasts(list, id, now) {
				n++
			}
		}
	}
	return n
}

// After returns the restrictions after an event of the given epoch. It changes nothing if
// they include the event already.
func (r *Restrictions) After(e *Event, epoch string) *Restrictions {
	next := &Restrictions{}
	if r != nil {
		if r.Epoch == epoch && e.Seq <= r.Seq {
			return r
		}
		*next = *r
	}
	next.Epoch, next.Seq = epoch, e.Seq
	switch e.Kind {
	case Banned:
		next.Bans = with(next.Bans, e)
	case Unbanned:
		next.Bans = without(next.Bans, e)
	case Muted:
		next.Mutes = with(next.Mutes, e)
	case Unmuted:
		next.Mutes = without(next.Mutes, e)
	case Slowed:
		next.Slow = e.Every
	}
	return next
}

// with returns the list with the member of e, and without the entries that have ended.
func with(list map[string]int64, e *Event) map[string]int64 {
	next := without(list, e)
	end := int64(0)
	if !e.Until.IsZero() {
		end = e.Until.UnixMilli()
	}
	next[e.Member] = end
	return next
}

func without(list map[string]int64, e *Event) map[string]int64 {
	next := make(map[string]int64, len(list)+1)
	maps.Copy(next, list)
	maps.DeleteFunc(next, func(id string, _ int64) bool { return id == e.Member || !lasts(list, id, e.At) })
	return next
}
