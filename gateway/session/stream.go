package session

import (
	"strings"

	"roomcast/gateway/hub"
	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/history"
)

// stream is the state of a reader of events until each of its rooms has been joined or refused.
// The loop owns it.
type stream struct {
	origin  string        // of the page that reads it; "" = none
	rooms   []streamRoom  // of a stream of several rooms
	waits   int           // rooms that have been neither joined nor refused
	refused []refusedRoom // before the first room was joined
}

// streamRoom is one room of a stream.
type streamRoom struct {
	room proto.Room
	from proto.From
}

// refusedRoom is a room that the reader of a stream could not join.
type refusedRoom struct {
	room    proto.Room
	refusal *proto.Refusal
}

// add reads the rooms that a request names, each with the position where the stream begins. If
// the request gives no position for a room, the stream begins at the parameter from.
func (st *stream) add(req *wire.Request, from proto.From, most int) error {
	for _, value := range req.Queries("room") {
		name, id, positioned := strings.Cut(value, "!")
		room, err := proto.ParseRoom(name)
		if err != nil {
			return proto.Refuse(proto.BadRoom, "%v", err)
		}
		r := streamRoom{room, from}
		if positioned {
			if r.from, err = proto.ParseEventID(id); err != nil {
				return err
			}
		}
		if st.find(room) != nil {
			return proto.Refuse(proto.BadRequest, "the query names the room %s twice", room)
		}
		if st.rooms = append(st.rooms, r); len(st.rooms) > most {
			return proto.Refuse(proto.BadRequest, "a stream has at most %d rooms; open another one", most)
		}
	}
	if len(st.rooms) == 0 {
		return proto.Refuse(proto.BadRequest, "name the rooms: /events?room=lobby&room=ops")
	}
	return nil
}

func (st *stream) find(room proto.Room) *streamRoom {
	for i := range st.rooms {
		if st.rooms[i].room == room {
			return &st.rooms[i]
		}
	}
	return nil
}

// allows reports whether the session may read at least one of the stream's rooms.
func (st *stream) allows(s *session) bool {
	for i := range st.rooms {
		if s.grant.Of(st.rooms[i].room, s.who.ID).Allow(proto.RightRead) {
			return true
		}
	}
	return false
}

// joinAll joins the rooms of a stream. The HTTP response begins when the session has joined the
// first of them. If all rooms are refused, the request is refused.
func (h *handshakes) joinAll(s *session) {
	st := h.streams[s.id]
	s.phase = joiningIn
	h.hold(s, pauseJoin)
	h.release(s, pauseAuth)
	h.loop.SetDeadline(s.id, h.cfg.TextPatience)
	st.waits = len(st.rooms)
	for _, r := range st.rooms {
		if s.phase == ending {
			return
		}
		h.joinOne(s, r)
	}
}

func (h *handshakes) joinOne(s *session, r streamRoom) {
	if lost := h.forbidden(s, r.room, proto.RightRead); lost != nil {
		h.refuseRoom(s, r.room, lost)
		return
	}
	k := memberKey{s.id, r.room}
	h.joins[k] = ""
	h.askJoin(s, r.room, func(s *session, refusal *proto.Refusal) {
		if refusal == nil {
			h.hub.Join(s.id, r.room, r.from)
			return
		}
		delete(h.joins, k)
		if closeCode(refusal.Code).Reconnect() {
			h.closeRefused(s, refusal)
		} else {
			h.refuseRoom(s, r.room, refusal)
		}
	})
}

// roomJoined handles the hub's notice that the session has joined one of its stream's rooms.
func (h *handshakes) roomJoined(s *session, n hub.Notice) {
	k, st := memberKey{s.id, n.Room}, h.streams[s.id]
	if _, asked := h.joins[k]; !asked || st == nil {
		return
	}
	delete(h.joins, k)
	if refusal := h.unfit(s, n); refusal != nil {
		h.hub.Leave(s.id, n.Room)
		delete(h.permissions.until, k)
		h.refuseRoom(s, n.Room, refusal)
		return
	}
	if s.phase == joiningIn {
		h.accept(s)
		s.phase = open
		h.hello(s, history.Head{})
		h.release(s, pauseJoin)
	}
	h.arm(s)
	j := h.head(s, n.Room, n.Head)
	j.Resume = h.passedRoom(s, n.Room)
	h.buf = append(j.AppendJSON(h.ok(nil)), '}')
	h.position(s, &proto.Record{Room: n.Room, Kind: wire.KindJoined, Payload: h.buf}, n.Head, st.find(n.Room).from.None())
	h.bridge.Joined(n.Room, s.who)
	h.streams.answered(s.id)
	for _, r := range st.refused {
		h.tellEnded(s, r.room, closeCode(r.refusal.Code), r.refusal.Message)
	}
	st.refused = nil
}

// refuseRoom tells a reader of events that one of its rooms was refused.
func (h *handshakes) refuseRoom(s *session, room proto.Room, refusal *proto.Refusal) {
	st := h.streams[s.id]
	switch {
	case s.phase == open:
		h.streams.answered(s.id)
		h.tellEnded(s, room, closeCode(refusal.Code), refusal.Message)
	case st.waits > 1:
		st.waits--
		st.refused = append(st.refused, refusedRoom{room, refusal})
	default:
		h.closeRefused(s, refusal)
	}
}

// streams contains the readers of events that wait to join some of their rooms. The loop owns
// it.
type streams map[loop.ID]*stream

// answered counts one room of the session's stream as joined or refused. After the last of the
// rooms it deletes the stream.
func (ss streams) answered(id loop.ID) {
	if st := ss[id]; st.waits > 1 {
		st.waits--
	} else {
		delete(ss, id)
	}
}

// endEmpty closes a stream of several rooms if the session is no longer in any room.
func (lc *lifecycle) endEmpty(s *session, code proto.CloseCode, why string) {
	if s.kind == events && s.home.IsZero() && s.phase == open && lc.streams[s.id] == nil && len(lc.hub.RoomsOf(s.id)) == 0 {
		lc.close(s, code, why, proto.LeftServer)
	}
}
