package proto

import (
	"encoding/json"
	"strconv"
	"time"
)

// The following answers are the same over WebSocket, HTTP and NATS. Their methods append JSON.
// Clients read the JSON with encoding/json.

// Hello is the first frame of a JSON session.
type Hello struct {
	Session string    `json:"session"`
	You     Identity  `json:"you"`
	Resume  string    `json:"resume"`  // a later session that presents this string has the same sender
	Time    time.Time `json:"time"`    // the server's time
	Expires time.Time `json:"expires"` // when the token expires; zero = the session has no token
	Limits  Limits    `json:"limits"`  // zero = unknown
	Joined            // describes the room in the session's path; zero = the path names no room
}

// Limits contains the limits of a session.
type Limits struct {
	Message     int     `json:"message"`       // the most bytes of one message
	Rooms       int     `json:"rooms"`         // the most rooms that the session may be in
	Rate        float64 `json:"rate"`          // the most commands a second, on average; 0 = no limit
	KeyWindowMS int64   `json:"key_window_ms"` // how long the owner of a room remembers keys; 0 = unknown
}

// Joined is the answer to join. It describes the newest event of the room.
type Joined struct {
	Room  Room      `json:"room,omitzero"`
	Seq   uint64    `json:"seq"`
	Epoch string    `json:"epoch"`
	At    time.Time `json:"at"` // time of the event; zero = unknown

	Resume string `json:"resume,omitempty"` // replaces the string in hello; "" = that string remains valid

	Rights Rights    `json:"rights"` // rights of the session in the room
	Muted  bool      `json:"muted"`  // the client is muted in the room
	Until  time.Time `json:"until"`  // end of the mute; zero = the mute has no end
}

// Page is the answer to history: events of one room, the oldest first.
type Page struct {
	Room   Room              `json:"room"`
	Events []json.RawMessage `json:"events"` // each can be read with [ParseEvent]
	More   bool              `json:"more"`   // there are more events in the direction of reading
	Seq    uint64            `json:"seq"`    // seq of the room's newest event
	Epoch  string            `json:"epoch"`  // present epoch of the room
	Gap    *Gap              `json:"gap"`    // events that are missing before the first event; nil = none
	Closed bool              `json:"closed"` // the room is closed
	Why    string            `json:"why"`    // the reason for the close
}

// Members is the answer to members. It counts people and lists up to [MaxListed] of them. If
// More is set, there are people that are not listed.
type Members struct {
	Room  Room     `json:"room"`
	Count int      `json:"count"`
	List  []Member `json:"members"`
	More  bool     `json:"more"`
}

// Member is one person in a room.
type Member struct {
	Identity
	Sessions int `json:"sessions"` // number of sessions that this person has in the room
}

// Present is the answer of one gateway on [Room.WhoSubject]. It lists the people who have
// sessions on this gateway.
type Present struct {
	Gateway string   `json:"gateway"`
	Count   int      `json:"count"`           // people on this gateway
	Total   int      `json:"total,omitempty"` // people on all gateways, if this gateway has members in the room
	List    []Member `json:"list,omitempty"`  // people on this gateway, at most MaxListed; Sessions counts only sessions on this gateway
}

// MaxListed is the most people that an answer lists. If a room has more, joins and leaves contain
// only the number of people, and no names.
const MaxListed = 200

// AppendOK appends the beginning of the answer to the command with the given id. Nil means that
// the command has no id. The caller appends the value of ok and a closing brace.
func AppendOK(b, id []byte) []byte { return append(appendID(b, id), `"ok":`...) }

// AppendError appends the answer that refuses the command with the given id. Nil means that the
// command has no id.
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

// AppendJSON appends {"hello":{…}}. It omits a zero Room.
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
	if l.Rate > 0 {
		b = strconv.AppendFloat(append(b, `,"rate":`...), l.Rate, 'f', -1, 64)
	}
	if l.KeyWindowMS > 0 {
		b = strconv.AppendInt(append(b, `,"key_window_ms":`...), l.KeyWindowMS, 10)
	}
	return append(b, '}')
}

// AppendJSON appends {"room":…,"seq":…,"epoch":…,"at":…,"rights":…}. It omits an unknown time.
// During a mute it adds "muted" and "until".
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

// AppendAuth appends {"you":…,"expires":…}, the answer to auth.
func AppendAuth(b []byte, you Identity, expires time.Time) []byte {
	b = you.AppendJSON(append(b, `{"you":`...))
	return append(AppendTime(append(b, `,"expires":"`...), expires), `"}`...)
}

// AppendEnded appends {"room":…,"ended":{"code":…,"reason":…}}. This tells a session on /ws that
// it is no longer a member of the room.
func AppendEnded(b []byte, room Room, code CloseCode, reason string) []byte {
	b = appendString(append(b, `{"room":`...), room.String())
	b = strconv.AppendUint(append(b, `,"ended":{"code":`...), uint64(code), 10)
	b = append(b, `,"reason":`...)
	return append(appendString(b, reason), `}}`...)
}

// AppendDrain appends {"drain":{"in":"10s"}}. This tells a session that the gateway is stopping and
// will close the session within that time.
func AppendDrain(b []byte, in time.Duration) []byte {
	return append(appendString(append(b, `{"drain":{"in":`...), in.String()), "}}"...)
}

// AppendLeave appends {"room":…}, the answer to leave.
func AppendLeave(b []byte, room Room) []byte {
	return append(appendString(append(b, `{"room":`...), room.String()), '}')
}

// AppendJSON appends {"room":…,"events":[…],"more":…,"seq":…,"epoch":…}. It adds "gap" if events
// are missing, and "closed" and "why" if the room is closed.
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

// AppendJSON appends {"room":…,"count":…,"members":[…]}. It adds "more" if not all people are
// listed.
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

// AppendAck appends {"seq":…,"at":…}, the answer to a stored message. It adds "duplicate" if an
// earlier request with the same key stored the message.
func (r *Reply) AppendAck(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"seq":`...), r.Seq, 10)
	b = append(AppendTime(append(b, `,"at":"`...), r.At), '"')
	if r.Duplicate {
		b = append(b, `,"duplicate":true`...)
	}
	return append(b, '}')
}
