package server

import (
	"cmp"
	"net/http"
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/publish"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// signal sends content to the present members of a room. The body contains the fields of a
// signal command. Signals are not stored.
func (a *api) signal(r *http.Request, by *caller) (answer, error) {
	room, err := roomOf(r, by, proto.RightSay)
	if err != nil {
		return nil, err
	}
	s, err := a.read(r, by, room, func(body []byte) (proto.Command, error) { return proto.ParseBody(proto.VerbSignal, body) })
	if err != nil {
		return nil, err
	}
	kind := s.Content.Type
	if err := a.guard.askJoin(r, by, room); err != nil {
		return nil, err
	}
	if err := a.silenced(r, by, &s); err != nil {
		return nil, err
	}
	if err := a.askSay(r, by, &s, proto.VerbSignal); err != nil {
		return nil, err
	}
	a.bridge.Signal(room, proto.AppendSignal(nil, room, cmp.Or(s.Content.Type, kind), s.From, s.Content.Body), "")
	return answer(`{"ok":{}}`), nil
}

// silenced returns a refusal if the caller may not send a signal now. Signals do not go through
// the room's owner. So the gateway itself applies bans, mutes, the slow mode and a close.
func (a *api) silenced(r *http.Request, by *caller, s *publish.Say) error {
	head, err := await(r.Context(), func(done func(history.Head, error)) {
		a.bridge.Read(history.Query{Room: s.Room, Limit: 1}, func(p reads.Page, err error) {
			defer p.Release()
			done(p.Head, err)
		})
	})
	if err != nil {
		return err
	}
	now, guest := time.Now(), proto.IsGuest(s.From.ID)
	if banned := head.Limits.CheckBan(s.From.ID, guest, now); banned != nil {
		return banned
	}
	if head.Closed {
		return proto.Refuse(proto.RoomClosed, "%s", proto.CloseRoomClosed.Meaning())
	}
	if muted := head.Limits.CheckMute(s.From.ID, guest, now); muted != nil {
		return muted
	}
	every := head.Limits.Interval()
	if every == 0 || by.rights(s.Room)&proto.MayModerate != 0 {
		return nil
	}
	rate := limit.Rate{PerSecond: 1 / every.Seconds(), Burst: 1}
	if wait := a.rates.Take("signal "+s.Room.String()+" "+s.From.ID, rate, now); wait > 0 {
		return proto.Refuse(proto.RateLimited, "this room is slow: a member may send one signal in %v", every).After(wait)
	}
	return nil
}
