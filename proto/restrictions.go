package proto

import (
	"maps"
	"slices"
	"time"
)

// MaxRestricted bounds the bans and mutes of one room, counted together.
const MaxRestricted = 500

// MaxEdits is how often one message may be edited.
const MaxEdits = 20

// maxChanged bounds the deleted records and the edited messages that Restrictions contains. It
// is far above the default number of records in the log of a room.
const maxChanged = 4096

// Restrictions contains the bans, the mutes and the slow mode of a room, and which of its
// messages were deleted or edited. It is immutable, and so safe for concurrent use. A nil
// Restrictions restricts nobody.
type Restrictions struct {
	Epoch string // epoch of Seq, Deleted, Edits and EditTimes
	Seq   uint64 // seq of the newest act that is included

	// Bans and Mutes map a member's id to the end of its ban or mute, in milliseconds since 1970. 0
	// means that there is no end.
	Bans, Mutes map[string]int64
	Slow        time.Duration // a member may say one message in this time; 0 = no limit

	// Deleted maps the seq of each deleted message, and of each of its edits, to a stub. Edits maps
	// the seq of each edited message to the seqs of its edits, oldest first.
	Deleted map[uint64]Stub
	Edits   map[uint64][]uint64

	// EditTimes maps the seqs of the newest edits to their times, in milliseconds since 1970. The
	// stubs of edits need them.
	EditTimes map[uint64]int64
}

// Stub is the entry of a deleted record in a snapshot.
type Stub struct {
	Author string `json:"id"`
	At     int64  `json:"at,omitempty"` // time of the record, in milliseconds since 1970; 0 = an edit whose time was not kept
}

// In returns the restrictions for the given epoch. If r is from another epoch, the result leaves
// out the deleted and edited messages. Their seqs mean nothing in this epoch.
func (r *Restrictions) In(epoch string) *Restrictions {
	if r == nil || r.Epoch == epoch {
		return r
	}
	next := *r
	next.Epoch, next.Seq, next.Deleted, next.Edits, next.EditTimes = epoch, 0, nil, nil, nil
	return &next
}

// IsDeleted reports whether the record with this seq was deleted.
func (r *Restrictions) IsDeleted(seq uint64) bool {
	if r == nil {
		return false
	}
	_, deleted := r.Deleted[seq]
	return deleted
}

// Edit returns the seq of the newest edit of the message with this seq. 0 means that the message
// was not edited.
func (r *Restrictions) Edit(seq uint64) uint64 {
	if r == nil || len(r.Edits[seq]) == 0 {
		return 0
	}
	edits := r.Edits[seq]
	return edits[len(edits)-1]
}

// Forget returns the restrictions without the deletions and edits of messages whose seq is less
// than oldest. The log no longer contains these messages.
func (r *Restrictions) Forget(oldest uint64) *Restrictions {
	next := *r
	next.Deleted, next.Edits, next.EditTimes = maps.Clone(r.Deleted), maps.Clone(r.Edits), maps.Clone(r.EditTimes)
	maps.DeleteFunc(next.Deleted, func(seq uint64, _ Stub) bool { return seq < oldest })
	maps.DeleteFunc(next.Edits, func(seq uint64, _ []uint64) bool { return seq < oldest })
	maps.DeleteFunc(next.EditTimes, func(seq uint64, _ int64) bool { return seq < oldest })
	return &next
}

// Banned reports whether the id is banned at the given time. A ban of all guests includes every
// guest.
func (r *Restrictions) Banned(id string, now time.Time) bool {
	return r != nil && holds(r.Bans, id, IsGuest(id), now)
}

// Muted reports whether the id is muted at the given time. A mute of all guests includes every
// guest.
func (r *Restrictions) Muted(id string, now time.Time) bool {
	return r != nil && holds(r.Mutes, id, IsGuest(id), now)
}

// MutedUntil returns the end of the id's mute. Zero means that the mute has no end.
func (r *Restrictions) MutedUntil(id string, now time.Time) time.Time {
	return until(r.Mutes, id, IsGuest(id), now)
}

// CheckBan returns a refusal if the sender is banned at the given time, and otherwise nil. If guest
// is true, a ban of all guests includes the sender.
func (r *Restrictions) CheckBan(id string, guest bool, now time.Time) *Refusal {
	if r == nil || !holds(r.Bans, id, guest, now) {
		return nil
	}
	if end := until(r.Bans, id, guest, now); !end.IsZero() {
		return Refuse(CodeBanned, "a moderator has banned you from this room until %s; come back then", end.Format(time.RFC3339))
	}
	return Refuse(CodeBanned, "a moderator has banned you from this room; you may return when a moderator ends the ban")
}

// CheckMute is like CheckBan, for a mute.
func (r *Restrictions) CheckMute(id string, guest bool, now time.Time) *Refusal {
	if r == nil || !holds(r.Mutes, id, guest, now) {
		return nil
	}
	if end := until(r.Mutes, id, guest, now); !end.IsZero() {
		return Refuse(CodeMuted, "a moderator has muted you in this room until %s; send again then", end.Format(time.RFC3339))
	}
	return Refuse(CodeMuted, "a moderator has muted you in this room; you may send again when a moderator ends the mute")
}

func holds(list map[string]int64, id string, guest bool, now time.Time) bool {
	if len(list) == 0 {
		return false
	}
	return lasts(list, id, now) || guest && lasts(list, Guests, now)
}

// until returns the end of a ban or mute that holds. A guest may have two entries, one for its id
// and one for all guests. Then the later end counts. Zero means that there is no end.
func until(list map[string]int64, id string, guest bool, now time.Time) time.Time {
	var last int64
	for _, of := range []string{id, Guests} {
		if (of == id || guest) && lasts(list, of, now) {
			if list[of] == 0 {
				return time.Time{}
			}
			last = max(last, list[of])
		}
	}
	return time.UnixMilli(last).UTC()
}

// Names reports whether there is a ban or a mute for exactly this member at the given time. It
// looks for a ban if kind is [Banned] or [Unbanned], and otherwise for a mute. A ban of all
// guests is not a ban for a single guest.
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

// Interval returns the time in which a member may say one message. 0 means that there is no
// limit.
func (r *Restrictions) Interval() time.Duration {
	if r == nil {
		return 0
	}
	return r.Slow
}

// IsEmpty reports whether the room has no ban, no mute and no slow mode at the given time.
func (r *Restrictions) IsEmpty(now time.Time) bool {
	return r == nil || r.Slow == 0 && r.Count(now) == 0
}

// Count returns the number of bans and mutes that the room has at the given time.
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

// After returns the restrictions as they are after the event e of the given epoch. If r includes
// the event already, After returns r.
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

// remove adds a message and its edits to the deleted records of r. The caller must be the only
// user of r.
func (r *Restrictions) remove(e *Event) {
	deleted := make(map[uint64]Stub, len(r.Deleted)+1+len(r.Edits[e.Of]))
	maps.Copy(deleted, r.Deleted)
	deleted[e.Of] = Stub{e.Author.ID, e.Author.At.UnixMilli()}
	times := maps.Clone(r.EditTimes)
	for _, edit := range r.Edits[e.Of] {
		deleted[edit] = Stub{e.Author.ID, times[edit]}
		delete(times, edit)
	}
	keepNewest(deleted)
	r.Deleted, r.Edits, r.EditTimes = deleted, maps.Clone(r.Edits), times
	delete(r.Edits, e.Of)
}

// edit adds an edit to r. The caller must be the only user of r.
func (r *Restrictions) edit(e *Event) {
	edits := make(map[uint64][]uint64, len(r.Edits)+1)
	maps.Copy(edits, r.Edits)
	edits[e.Of] = append(slices.Clip(edits[e.Of]), e.Seq)
	keepNewest(edits)
	times := make(map[uint64]int64, len(r.EditTimes)+1)
	maps.Copy(times, r.EditTimes)
	times[e.Seq] = e.At.UnixMilli()
	keepNewest(times)
	r.Edits, r.EditTimes = edits, times
}

// keepNewest deletes the entries with the lowest seqs until at most [maxChanged] remain.
func keepNewest[V any](bySeq map[uint64]V) {
	for len(bySeq) > maxChanged {
		delete(bySeq, slices.Min(slices.Collect(maps.Keys(bySeq))))
	}
}

// with returns a copy of the list that includes the member of e, without the entries that have
// ended.
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
