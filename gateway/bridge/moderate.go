package bridge

import (
	"context"
	"slices"

	"roomcast/gateway/publish"
	"roomcast/gateway/reads"
	"roomcast/proto"
)

// Moderate sends an act to the room's owner. If the act is to kick somebody who is not in the
// room, Moderate refuses it, because owners do not know who is in a room. If some gateways do
// not answer or list only some of their members, Moderate sends the kick to the owner anyway.
func (b *Bridge) Moderate(s publish.Say, done func(proto.Reply)) {
	if s.Act != proto.ActKick {
		b.Say(s, done)
		return
	}
	b.Members(s.Room, func(count int, list []proto.Member, err error) {
		present := slices.ContainsFunc(list, func(who proto.Member) bool { return who.ID == s.Terms.Member })
		if err == nil && !present && count <= len(list) {
			done(proto.Reply{Refusal: proto.Refuse(proto.NotFound, "this member is not in the room; use ban to keep somebody out")})
			return
		}
		b.Say(s, done)
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
