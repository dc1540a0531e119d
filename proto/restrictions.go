package proto

import (
	"maps"
	"slices"
	"time"
)

// MaxRestricted is the number of bans and mutes that a room holds together.
const MaxRestricted = 500

// MaxEdits is the number of edits that one message can have.
const MaxEdits = 20

// maxChanged limits the deleted records that Restrictions remember, and the edited messages. It
// is far above the number of records that the log of a room holds by default.
const maxChanged = 4096

// Restrictions are the bans, the mutes and the slow mode of a room, and the changes of its
// messages. They are immutable, and safe for concurrent use. A nil Restrictions restricts
// nobody and changes nothing.
type Restrictions struct {
	Epoch string // of Seq, Deleted and Edits
	Seq   uint64 // of the newest act that they include

	// Bans and Mutes hold the end of each ban and mute, by the member's id, in milliseconds since
	// 1970; 0 = it has no end.
	Bans, Mutes map[string]int64
	Slow        time.Duration // time in which a member may say one message; 0 = no limit

	// Deleted holds the deleted messages and their edits, by seq. Edits holds the seqs of the
	// edits of a message, oldest first, by the seq of the message.
	Deleted map[uint64]Stub
	Edits   map[uint64][]uint64
}

// Stub is the entry of a deleted record in a snapshot.
type Stub struct {
	Author string `json:"id"`
	At     int64  `json:"at,omitempty"` // of a message, in milliseconds since 1970; 0 = it was an edit
}

// In returns the restrictions for an epoch: without deletes and edits of another epoch.
func (r *Restrictions) In(epoch string) *Restrictions {
	if r == nil || r.Epoch == epoch {
		return r
	}
	next := *r
	next.Epoch, next.Seq, next.Deleted, next.Edits = epoch, 0, nil, nil
	return &next
}

// IsDeleted reports whether the record numbered seq was deleted.
func (r *Restrictions) IsDeleted(seq uint64) bool {
	if r == nil {
		return false
	}
	_, deleted := r.Deleted[seq]
	return deleted
}

// Edit returns the seq of the newest edit of the message numbered seq; 0 = there is none.
func (r *Restrictions) Edit(seq uint64) uint64 {
	if r == nil || len(r.Edits[seq]) == 0 {
		return 0
	}
	edits := r.Edits[seq]
	return edits[len(edits)-1]
}

// Forget returns the restrictions without deletes and edits of messages before oldest, which the
// log does not hold any more.
func (r *Restrictions) Forget(oldest uint64) *Restrictions {
	next := *r
	next.Deleted, next.Edits = maps.Clone(r.Deleted), maps.Clone(r.Edits)
	maps.DeleteFunc(next.Deleted, func(seq uint64, _ Stub) bool { return seq < oldest })
	maps.DeleteFunc(next.Edits, func(seq uint64, _ []uint64) bool { return seq < oldest })
	return &next
}

// Banned reports whether the id is banned at a time. A ban of all guests counts for a guest.
func (r *Restrictions) Banned(id string, now time.Time) bool {
	return r != nil && holds(r.Bans, id, now)
}

// Muted does the same for mutes.
func (r *Restrictions) Muted(id string, now time.Time) bool {
	return r != nil && holds(r.Mutes, id, now)
}

// MutedUntil returns the end of the mute of an id. A guest may have two mutes, its own and that of
// all guests; then the later end counts. Zero = the mute has no end.
func (r *Restrictions) MutedUntil(id string, now time.Time) time.Time {
	var last int64
	for _, of := range []string{id, Guests} {
		if end, found := r.Mutes[of]; found && (of == id || IsGuest(id)) && lasts(r.Mutes, of, now) {
			if end == 0 {
				return time.Time{}
			}
			last = max(last, end)
		}
	}
	return time.UnixMilli(last).UTC()
}

func holds(list map[string]int64, id string, now time.Time) bool {
	if len(list) == 0 {
		return false
	}
	return lasts(list, id, now) || IsGuest(id) && lasts(list, Guests, now)
}

// Names reports whether a ban or a mute of the member holds at a time: a ban if kind is [Banned] or
// [Unbanned], otherwise a mute. A ban of all guests is not a ban of any of them.
func (r *Restrictions) Names(kind EventKind, member string, now time.Time) bool {
	switch {
	case r == nil:
		return false
	case kind == Banned || kind == Unbanned:
		return lasts(r.Bans, member, now)
	}
	return lasts(r.Mutes, member, now)
}

func lasts(list map[string]int64, id string, now time.Time) bool {
	end, found := list[id]
	return found && (end == 0 || now.UnixMilli() < end)
}

// Interval returns the time in which a member may say one message; 0 = no limit.
func (r *Restrictions) Interval() time.Duration {
	if r == nil {
		return 0
	}
	return r.Slow
}

// IsEmpty reports whether there is no ban, no mute and no slow mode at a time.
func (r *Restrictions) IsEmpty(now time.Time) bool {
	return r == nil || r.Slow == 0 && r.Count(now) == 0
}

// Count returns the number of bans and mutes at a time.
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

// After returns the restrictions after an event of the given epoch. If they include the event
// already, it returns r.
func (r *Restrictions) After(e *Event, epoch string) *Restrictions {
	next := &Restrictions{Epoch: epoch}
	if r != nil {
		if r.Epoch == epoch && e.Seq <= r.Seq {
			return r
		}
		*next = *r.In(epoch)
	}
	next.Seq = e.Seq
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
	case Deleted:
		next.remove(e)
	case Edited:
		next.edit(e)
	}
	return next
}

// remove adds a message and its edits to the deleted records of r. Nobody else uses r yet.
func (r *Restrictions) remove(e *Event) {
	deleted := make(map[uint64]Stub, len(r.Deleted)+1+len(r.Edits[e.Of]))
	maps.Copy(deleted, r.Deleted)
	deleted[e.Of] = Stub{e.Author.ID, e.Author.At.UnixMilli()}
	for _, edit := range r.Edits[e.Of] {
		deleted[edit] = Stub{Author: e.Author.ID}
	}
	for len(deleted) > maxChanged {
		delete(deleted, slices.Min(slices.Collect(maps.Keys(deleted))))
	}
	r.Deleted, r.Edits = deleted, maps.Clone(r.Edits)
	delete(r.Edits, e.Of)
}

// edit adds an edit to r. Nobody else uses r yet.
func (r *Restrictions) edit(e *Event) {
	edits := make(map[uint64][]uint64, len(r.Edits)+1)
	maps.Copy(edits, r.Edits)
	edits[e.Of] = append(slices.Clip(edits[e.Of]), e.Seq)
	for len(edits) > maxChanged {
		delete(edits, slices.Min(slices.Collect(maps.Keys(edits))))
	}
	r.Edits = edits
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
