package session

import (
	"time"

	"roomcast/gateway/loop"
	"roomcast/proto"
)

// permissions contains when the backend's permissions to be in rooms end. The loop owns it.
type permissions struct {
	until  map[memberKey]time.Time // by membership; without an entry, the permission has no end
	lapses map[loop.ID]time.Time   // the earliest of these times or an earlier time, by session
}

func newPermissions() permissions {
	return permissions{make(map[memberKey]time.Time), make(map[loop.ID]time.Time)}
}

// set records that a permission ends at the time until. A zero until means that it has no end.
func (p *permissions) set(k memberKey, until time.Time) {
	if until.IsZero() {
		delete(p.until, k)
		return
	}
	p.until[k] = until
	if first, ends := p.lapses[k.id]; !ends || until.Before(first) {
		p.lapses[k.id] = until
	}
}

// lapsed reports whether a permission has ended.
func (p *permissions) lapsed(k memberKey, now time.Time) bool {
	until, ends := p.until[k]
	return ends && !until.After(now)
}

// renewals asks the backend again when its permissions to be in rooms end. The loop owns it.
type renewals struct{ *questions }

// check asks the backend again about the rooms of the session for which its permission has ended.
func (r renewals) check(s *session) {
	p, now := &r.permissions, r.loop.Now()
	if lapses, ends := p.lapses[s.id]; !ends || lapses.After(now) {
		return
	}
	delete(p.lapses, s.id)
	for _, room := range r.hub.RoomsOf(s.id) {
		k := memberKey{s.id, room}
		until, ends := p.until[k]
		_, waits := r.joins[k]
		switch {
		case !ends:
		case !p.lapsed(k, now):
			p.set(k, until)
		case waits: // ask when the session is in the room
			p.set(k, now.Add(time.Second))
		default:
			r.ask(s, room, func(*session, *proto.Refusal) {})
		}
	}
}

// ask asks the backend again whether the session may be in a room. It calls done with the answer.
// If the answer is no, it then ends the membership.
func (r renewals) ask(s *session, room proto.Room, done func(*session, *proto.Refusal)) {
	k := memberKey{s.id, room}
	delete(r.permissions.until, k)
	r.askJoin(s, room, func(s *session, refusal *proto.Refusal) {
		if _, waits := r.joins[k]; !waits && !r.hub.In(s.id, room) {
			delete(r.permissions.until, k) // the session has left the room meanwhile
		}
		done(s, refusal)
		switch {
		case refusal == nil || !r.hub.In(s.id, room):
			r.arm(s)
		case closeCode(refusal.Code).Reconnect():
			r.closeRefused(s, refusal)
		default:
			r.expel(s, room, closeCode(refusal.Code), refusal.Message)
		}
	})
}
