package room

import (
	"maps"
	"strings"
	"time"

	"roomcast/proto"
)

// moderate decides an act of a sender with the right to moderate.
func (r *Room) moderate(c *Command, m Moment) Outcome {
	if c.Act == proto.ActDelete {
		return r.change(c, m)
	}
	e := proto.Event{Kind: c.Act.Rule().Kind, Why: c.Why, Member: c.Terms.Member}
	named := r.limits.Names(e.Kind, e.Member, m.Now)
	if e.Member != "" && e.Member == c.From.ID {
		return refuse(proto.BadRequest, "you cannot %s yourself", c.Act)
	}
	switch c.Act {
	case proto.ActKick:
		if c.Absent {
			return refuse(proto.NotFound, "this member is not in the room; use ban to keep somebody out")
		}
	case proto.ActClose:
		if r.state.Closed && r.closed.seq > 0 {
			return duplicate(r.closed.seq, r.closed.at)
		}
	case proto.ActReopen:
		if !r.state.Closed {
			return refuse(proto.BadRequest, "the room is not closed")
		}
	case proto.ActBan, proto.ActMute:
		if !named && r.limits.Count(m.Now) >= proto.MaxRestricted {
			return refuse(proto.TooMany, "a room has at most %d bans and mutes; undo some of them first", proto.MaxRestricted)
		}
		if c.Terms.For > 0 {
			e.Until = m.Now.Add(c.Terms.For).UTC().Truncate(time.Millisecond)
		}
	case proto.ActUnban, proto.ActUnmute:
		if !named {
			return refuse(proto.NotFound, "there is nothing to undo: this member is not banned or muted in that way")
		}
	case proto.ActSlow:
		e.Every = c.Terms.Every
	}
	return r.record(&e, c, m)
}

// change decides the edit or the delete of a message.
func (r *Room) change(c *Command, m Moment) Outcome {
	seq, target := c.Terms.Seq, c.Target
	switch {
	case c.Terms.Epoch != "" && c.Terms.Epoch != r.state.Epoch, r.renew:
		return refuse(proto.NotFound, "message %d is of an earlier epoch of the room; only messages of the present epoch can be changed", seq)
	case r.limits.IsDeleted(seq):
		return refuse(proto.NotFound, "message %d has been deleted", seq)
	case seq > r.seq:
		return refuse(proto.NotFound, "the room has no event %d yet; its newest event is %d", seq, r.seq)
	case target == nil, target.Seq != seq:
		return refuse(proto.NotFound, "the log no longer contains event %d, so it cannot be changed", seq)
	case target.Kind != proto.Message:
		return refuse(proto.NotFound, "event %d is of kind %s and not a message; send the seq of a message", seq, target.Kind)
	case target.From != c.From.ID && c.Act == proto.ActEdit:
		return refuse(proto.Forbidden, "message %d is somebody else's; only its author may edit it", seq)
	case target.From != c.From.ID && !c.Rights.Allow(proto.RightModerate):
		return refuse(proto.Forbidden, "message %d is somebody else's; to delete it, you need the right moderate", seq)
	case c.Act == proto.ActDelete:
		author, once := proto.Author{ID: target.From, Key: target.Key, At: target.State.At}, ""
		if c.Secret {
			author.Key, once = "", target.Key
		}
		out := r.record(&proto.Event{Kind: proto.Deleted, Of: seq, Author: author, Why: c.Why}, c, m)
		if out.Record != nil {
			out.Record.Once = once
		}
		return out
	case len(r.edits(seq)) >= proto.MaxEdits:
		return refuse(proto.TooMany, "message %d has been edited %d times, which is the most", seq, proto.MaxEdits)
	}
	return r.record(&proto.Event{Kind: proto.Edited, Of: seq, Content: c.Content}, c, m)
}

func (r *Room) edits(seq uint64) []uint64 {
	if r.limits == nil {
		return nil
	}
	return r.limits.Edits[seq]
}

// Records returns the seqs of a message and of its edits.
func (r *Room) Records(seq uint64) []uint64 { return append([]uint64{seq}, r.edits(seq)...) }

// Deleted returns the room's restrictions if some of its records were deleted, otherwise nil.
func (r *Room) Deleted() *proto.Restrictions {
	if r.limits == nil || len(r.limits.Deleted) == 0 {
		return nil
	}
	return r.limits
}

// undone reports whether a later act has undone the act c, for example an unban after a ban. The
// act c is a resend; it was first stored at the given time. A ban or a mute whose duration is over
// does not count as undone.
func (r *Room) undone(c *Command, at, now time.Time) bool {
	rule := c.Act.Rule()
	if rule == nil {
		return false // a message
	}
	named := r.limits.Names(rule.Kind, c.Terms.Member, now)
	switch c.Act {
	case proto.ActClose:
		return !r.state.Closed
	case proto.ActReopen:
		return r.state.Closed
	case proto.ActBan, proto.ActMute:
		return !named && (c.Terms.For == 0 || now.Before(at.Add(c.Terms.For)))
	case proto.ActUnban, proto.ActUnmute:
		return named
	case proto.ActSlow:
		return r.limits.Interval() != c.Terms.Every
	}
	return false
}

// wait returns how long the sender of a message must wait in a slow room; 0 = not at all.
func (r *Room) wait(c *Command, now time.Time) time.Duration {
	every := r.limits.Interval()
	if every == 0 || c.Rights.Allow(proto.RightModerate) {
		return 0
	}
	last, found := r.spoke[c.From.ID]
	if !found {
		return 0
	}
	return max(0, every-(r.keys.clock(now)-last))
}

// spoken maps each sender to the time of its last message, since keys.born. It has entries only
// while the room is slow.
type spoken map[string]time.Duration

func (s *spoken) add(from string, at time.Duration, limits *proto.Restrictions) {
	if limits.Interval() == 0 {
		return
	}
	if *s == nil {
		*s = make(spoken)
	}
	(*s)[strings.Clone(from)] = at // from is a part of a header, which must not stay in memory
}

// expire removes the senders that need not wait any longer.
func (s *spoken) expire(now time.Duration, limits *proto.Restrictions) {
	every := limits.Interval()
	maps.DeleteFunc(*s, func(_ string, at time.Duration) bool { return every == 0 || now-at >= every })
}
