package client

import (
	"time"

	"roomcast/proto"
)

// receive handles a frame of the server. If it returns an error, the connection must be closed.
func (s *state) receive(p []byte) error {
	in, err := parseFrame(p)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer signal(s.wake)
	if in.ID != nil {
		if k := s.calls.byID[*in.ID]; k != nil && (in.OK != nil || in.Error != nil) {
			return s.answered(k, &in)
		}
		return nil
	}
	r := s.joinedRoom(in.Room)
	if r == nil {
		return nil
	}
	switch {
	case in.Seq > 0:
		e, err := proto.ParseEvent(p)
		if err != nil {
			return err
		}
		s.event(r, &e)
	case in.Gap != nil:
		in.Gap.Room = r.name
		for _, say := range r.says {
			say.broken = true
		}
		if s.notify(Notice{Room: r.name, Gap: in.Gap}) {
			r.skip(in.Gap)
		} else {
			s.lag(r)
		}
	case in.Ended != nil:
		s.expel(r, proto.Refuse(proto.Code(in.Ended.Code.String()), "%s", in.Ended.Reason))
	case in.Signal != nil:
		s.notifyIfSpace(Notice{Room: r.name, Signal: in.Signal})
	case in.Joined != nil:
		s.notifyIfSpace(Notice{Room: r.name, Presence: in.Joined.presence(false)})
	case in.Left != nil:
		s.notifyIfSpace(Notice{Room: r.name, Presence: in.Left.presence(true)})
	}
	return nil
}

// joinedRoom returns the room with the given name, or nil if the session is not in it.
func (s *state) joinedRoom(name string) *room {
	parsed, err := proto.ParseRoom(name)
	if err != nil {
		return nil
	}
	if r := s.rooms[parsed]; r != nil && r.state == joined {
		return r
	}
	return nil
}

func (s *state) event(r *room, e *proto.Event) {
	switch r.judge(e.Seq) {
	case repeat:
		s.stats.Repeats++
	case hole:
		s.stats.Holes++
		r.state = lagging
	case next:
		if !s.notify(Notice{Room: r.name, Event: e}) {
			s.lag(r)
			return
		}
		r.returned(e)
		r.foundInReplay(e)
		// A close with a seq up to head was undone by a reopening. Otherwise the server would have
		// refused the join.
		if e.Kind == proto.Closed && e.Seq > r.head {
			s.expel(r, proto.Refuse(proto.RoomClosed, "%s", e.Why))
		}
	}
}

func (s *state) lag(r *room) {
	s.stats.Lags++
	r.state = lagging
}

// answered handles the answer to a command.
func (s *state) answered(k *call, in *frame) error {
	now := time.Now()
	for _, r := range s.order {
		switch {
		case r.move == k:
			s.calls.remove(k)
			return s.moved(r, in, now)
		case len(r.says) > 0 && r.says[0] == k:
			r.said(k, in, now)
			return nil
		}
	}
	k.finish(in.answer())
	s.calls.remove(k)
	return nil
}

// moved handles the answer to a join or a leave.
func (s *state) moved(r *room, in *frame, now time.Time) error {
	r.move = nil
	left := r.state == leaving
	switch {
	case in.Error != nil && temporary(in.Error):
		r.state = absent
		if left {
			r.state = lagging
		}
		r.later(in.Error, now)
	case left: // if the leave is refused, the session was not in the room
		r.state = absent
	case in.Error == nil:
		a := in.answer()
		var head proto.Joined
		if err := a.decode(&head); err != nil {
			return err
		}
		r.entered(&head)
		if r.asked != nil {
			r.asked.finish(a)
			r.asked = nil
		}
	case r.asked == nil:
		s.expel(r, in.Error)
	default:
		s.forget(r, in.Error)
	}
	return nil
}
