package proto

import (
	"encoding/json"
	"strconv"
	"time"
)

// The answers below are the same over WebSocket, HTTP and NATS. Their methods append JSON, and
// clients read it with encoding/json.

// Hello is the first frame of a JSON session.
type Hello struct {
	Session string    `json:"session"`
	You     Identity  `json:"you"`
	Resume  string    `json:"resume"`  // makes the next session the same sender
	Time    time.Time `json:"time"`    // of the server
	Expires time.Time `json:"expires"` // of the token; zero = the session has none
	Limits  Limits    `json:"limits"`  // zero = not known
	Joined            // of the room in the session's path; zero = none
}

// Limits are the limits of a session.
type Limits struct {
	Message     int   `json:"message"`       // bytes of a message
	Rooms       int   `json:"rooms"`         // rooms at a time
	KeyWindowMS int64 `json:"key_window_ms"` // how long the owner of a room remembers keys; 0 = not known
}

// Joined is the ok of a join: the newest event of the room.
type Joined struct {
	Room  Room      `json:"room,omitzero"`
	Seq   uint64    `json:"seq"`
	Epoch string    `json:"epoch"`
	At    time.Time `json:"at"` // of the event; zero = not known

	Resume string `json:"resume,omitempty"` // replaces the one of hello; "" = that remains valid

	Rights Rights    `json:"rights"` // of the session in the room
	Muted  bool      `json:"muted"`  // a mute of the session holds
	Until  time.Time `json:"until"`  // end of the mute; zero = it has none
}

// Page is the ok of history: events of one room, oldest first.
type Page struct {
	Room   Room              `json:"room"`
	Events []json.RawMessage `json:"events"` // see [ParseEvent]
	More   bool              `json:"more"`   // there are more events in the direction of reading
	Seq    uint64            `json:"seq"`    // of the room's newest event
	Epoch  string            `json:"epoch"`  // of the room
	Gap    *Gap              `json:"gap"`    // before the first event; nil = none
	Closed bool              `json:"closed"` // the room is closed
	Why    string            `json:"why"`    // the reason of the close
}

// Members is the ok of members. It counts people. It lists up to [MaxListed] of them; More says
// that there are others.
type Members struct {
	Room  Room     `json:"room"`
	Count int      `json:"count"`
	List  []Member `json:"members"`
	More  bool     `json:"more"`
}

// Member is one person in a room.
type Member struct {
	Identity
	Sessions int `json:"sessions"` // of this person in the room
}

// Present is the answer of one gateway on [Room.WhoSubject]: the people who have sessions there.
type Present struct {
	Gateway string   `json:"gateway"`
	Count   int      `json:"count"`           // people on this gateway
	Total   int      `json:"total,omitempty"` // people on all gateways, if this gateway has members in the room
	List    []Member `json:"list,omitempty"`  // people on this gateway, at most MaxListed; Sessions counts those there
}

// MaxListed is the number of people up to which a room's members are named.
const MaxListed = 200

// AppendOK begins the answer to the command with an id; nil = it has none. The caller appends
// the value of ok and a closing brace.
func AppendOK(b, id []byte) []byte { return append(appendID(b, id), `"ok":`...) }

// AppendError appends the answer that refuses the command with an id; nil = it has none.
func AppendError(b, id []byte, r *Refusal) []byte {
	b = append(appendID(b, id), `"error":`...)
	return append(r.AppendJSON(b), '}')
}

func appendID(b, id []byte) []byte {
	b = append(b, '{')
	if len(id) > 0 {
		b = append(b, `"id":`...)
		b = append(append(b, id...), ',')
	}
	return b
}

// AppendJSON appends {"hello":{…}}. A zero Room is left out.
func (h *Hello) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"hello":{"session":`...), h.Session)
	b = h.You.AppendJSON(append(b, `,"you":`...))
	b = appendString(append(b, `,"resume":`...), h.Resume)
	b = append(AppendTime(append(b, `,"time":"`...), h.Time), '"')
	if !h.Expires.IsZero() {
		b = append(AppendTime(append(b, `,"expires":"`...), h.Expires), '"')
	}
	if h.Limits != (Limits{}) {
		b = h.Limits.appendJSON(append(b, `,"limits":`...))
	}
	if !h.Room.IsZero() {
		b = h.Joined.appendFields(append(b, ','))
	}
	return append(b, "}}"...)
}

func (l *Limits) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"message":`...), int64(l.Message), 10)
	b = strconv.AppendInt(append(b, `,"rooms":`...), int64(l.Rooms), 10)
	if l.KeyWindowMS > 0 {
		b = strconv.AppendInt(append(b, `,"key_window_ms":`...), l.KeyWindowMS, 10)
	}
	return append(b, '}')
}

// AppendJSON appends {"room":…,"seq":…,"epoch":…,"at":…,"rights":…}, without an unknown
// time, and with "muted" and "until" while a mute holds.
func (j *Joined) AppendJSON(b []byte) []byte {
	return append(j.appendFields(append(b, '{')), '}')
}

func (j *Joined) appendFields(b []byte) []byte {
	b = appendString(append(b, `"room":`...), j.Room.String())
	b = strconv.AppendUint(append(b, `,"seq":`...), j.Seq, 10)
	b = appendString(append(b, `,"epoch":`...), j.Epoch)
	if !j.At.IsZero() {
		b = append(AppendTime(append(b, `,"at":"`...), j.At), '"')
	}
	if j.Resume != "" {
		b = appendString(append(b, `,"resume":`...), j.Resume)
	}
	if j.Rights != 0 {
		b = appendString(append(b, `,"rights":`...), j.Rights.String())
	}
	if j.Muted {
		b = append(b, `,"muted":true`...)
		if !j.Until.IsZero() {
			b = append(b, `,"until":"`...)
			b = append(AppendTime(b, j.Until), '"')
		}
	}
	return b
}

// AppendAuth appends {"you":…,"expires":…}, the ok of auth.
func AppendAuth(b []byte, you Identity, expires time.Time) []byte {
	b = you.AppendJSON(append(b, `{"you":`...))
	return append(AppendTime(append(b, `,"expires":"`...), expires), `"}`...)
}

// AppendEnded appends {"room":…,"ended":{"code":…,"reason":…}}, by which a session on /ws learns
// that it is no longer a member.
func AppendEnded(b []byte, room Room, code CloseCode, reason string) []byte {
	b = appendString(append(b, `{"room":`...), room.String())
	b = strconv.AppendUint(append(b, `,"ended":{"code":`...), uint64(code), 10)
	b = append(b, `,"reason":`...)
	return append(appendString(b, reason), `}}`...)
}

// AppendLeave appends {"room":…}, the ok of a leave.
func AppendLeave(b []byte, room Room) []byte {
	return append(appendString(append(b, `{"room":`...), room.String()), '}')
}

// AppendJSON appends {"room":…,"events":[…],"more":…,"seq":…,"epoch":…}. It adds "gap" if there
// is one, and "closed" and "why" for a closed room.
func (p *Page) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"room":`...), p.Room.String())
	b = append(b, `,"events":[`...)
	for i, event := range p.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, event...)
	}
	b = strconv.AppendBool(append(b, `],"more":`...), p.More)
	b = strconv.AppendUint(append(b, `,"seq":`...), p.Seq, 10)
	b = appendString(append(b, `,"epoch":`...), p.Epoch)
	if p.Gap != nil {
		b = p.Gap.AppendExtent(append(b, `,"gap":`...))
	}
	if p.Closed {
		b = appendString(append(b, `,"closed":true,"why":`...), p.Why)
	}
	return append(b, '}')
}

// AppendJSON appends {"room":…,"count":…,"members":[…]}, with "more" if not all are listed.
func (m *Members) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"room":`...), m.Room.String())
	b = strconv.AppendInt(append(b, `,"count":`...), int64(m.Count), 10)
	b = append(b, `,"members":[`...)
	list := m.List[:min(len(m.List), MaxListed)]
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = list[i].Identity.AppendJSON(b)
		b = strconv.AppendInt(append(b[:len(b)-1], `,"sessions":`...), int64(list[i].Sessions), 10)
		b = append(b, '}')
	}
	b = append(b, ']')
	if m.Count > len(list) {
		b = append(b, `,"more":true`...)
	}
	return append(b, '}')
}

// AppendAck appends {"seq":…,"at":…}, the ok of a stored message. It adds "duplicate" if an
// earlier request has stored the message.
func (r *Reply) AppendAck(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"seq":`...), r.Seq, 10)
	b = append(AppendTime(append(b, `,"at":"`...), r.At), '"')
	if r.Duplicate {
		b = append(b, `,"duplicate":true`...)
	}
	return append(b, '}')
}
