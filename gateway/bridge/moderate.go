package bridge

import (
	"context"
	"slices"

	"roomcast/gateway/publish"
	"roomcast/gateway/reads"
	"roomcast/proto"
)

// Say sends a message or an act to the room's owner, like [publish.Publisher.Say]. Owners do not
// know the members of rooms. So with a kick, Say says whether the member is in the room. The owner
// refuses the kick of an absent member, unless the kick is a resend of a stored one. If the
// gateways do not answer, or list only some of the members, the member counts as present.
func (b *Bridge) Say(s publish.Say, done func(proto.Reply)) {
	if s.Act != proto.ActKick {
		b.Publisher.Say(s, done)
		return
	}
	kick := s // only the copy moves to the heap
	b.Members(s.Room, func(count int, list []proto.Member, err error) {
		present := slices.ContainsFunc(list, func(who proto.Member) bool { return who.ID == kick.Terms.Member })
		kick.Absent = err == nil && !present && count <= len(list)
		b.Publisher.Say(kick, done)
	})
}

// Restrictions reads the bans, the mutes and the slow mode of a room from the log.
func (b *Bridge) Restrictions(room proto.Room, done func(*proto.Restrictions, error)) {
	b.Do(func(ctx context.Context) {
		head, err := b.Reader.Head(ctx, room)
		if err != nil {
			b.cfg.Log.Warn("read restrictions", "room", room.String(), "error", err)
			err = reads.Refusal(err)
		}
		done(head.Limits, err)
	}, func() { done(nil, reads.Overloaded()) })
}
