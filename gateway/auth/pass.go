package auth

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	"roomcast/proto"
	"roomcast/proto/grant"
)

// Pass contains what a client may do, as the application's backend or a ticket has said. The
// client's resume string contains the pass. So the gateway need not ask the backend again when
// the client comes back. If no backend has allowed a guest anything, the guest's pass contains
// only its identity, and Until is zero.
type Pass struct {
	Who    proto.Identity
	Issued time.Time            // when a guest got its first resume string
	Token  string               // the id in the token with which the client must present the pass; "" = none
	Rooms  json.RawMessage      // the rights from the backend; nil = the backend named none
	Until  time.Time            // when the answer to connect expires; zero = there is no answer, or it was for one session
	Joins  map[string]time.Time // rooms that the client may join, each with the end of the permission
	Ticket bool                 // the pass comes from a ticket, not from the backend
	Issuer string               // id of the API token that made the ticket
	Family string               // id of the first of the sessions that continue each other by resume strings
}

// maxJoins is the most rooms in one pass.
const maxJoins = 64

// passText is a pass as JSON. Times are in seconds since 1970. Only Issued is in milliseconds.
type passText struct {
	ID     string           `json:"i"`
	Name   string           `json:"n,omitempty"`
	Issued int64            `json:"t"`
	Token  string           `json:"o,omitempty"`
	Rooms  json.RawMessage  `json:"r,omitempty"`
	Until  int64            `json:"u,omitempty"`
	Joins  map[string]int64 `json:"j,omitempty"`
	Ticket bool             `json:"k,omitempty"`
	Issuer string           `json:"s,omitempty"`
	Family string           `json:"f,omitempty"`
}

// A resume string that contains a pass is the base64url encoding of
//
//	1 B version | 4 B name of the key | JSON | 16 B tag
//
// with the same tag as in the resume strings of version 0.1.0.
const (
	passVersion = 2
	maxPass     = 2 << 10 // characters
	maxPassAge  = 24 * time.Hour
)

// Empty reports whether the pass allows nothing at the given time.
func (p *Pass) Empty(now time.Time) bool {
	if p.Until.After(now) {
		return false
	}
	for _, until := range p.Joins {
		if until.After(now) {
			return false
		}
	}
	return true
}

// Allow adds a permission to the pass: the client may join the room until the given time.
func (p *Pass) Allow(room proto.Room, until, now time.Time) {
	maps.DeleteFunc(p.Joins, func(_ string, until time.Time) bool { return !until.After(now) })
	if p.Joins == nil {
		p.Joins = make(map[string]time.Time)
	}
	if _, known := p.Joins[room.String()]; known || len(p.Joins) < maxJoins {
		p.Joins[room.String()] = until
	}
}

// MayJoin reports whether the backend has allowed the client to join the room, and the
// permission still lasts.
func (p *Pass) MayJoin(room proto.Room, now time.Time) bool { return p.Joins[room.String()].After(now) }

// SignPass returns a resume string that contains the pass. If the string would be too long,
// SignPass leaves out Joins. If it is still too long, it leaves out Until and Rooms too. The
// gateway then has to ask the backend again.
func (g *signer) SignPass(p *Pass) string {
	now := g.now()
	until := func(t time.Time) int64 {
		if latest := now.Add(maxPassAge); t.After(latest) {
			t = latest
		}
		if t.After(now) {
			return t.Unix()
		}
		return 0
	}
	text := passText{ID: p.Who.ID, Name: p.Who.Name, Issued: p.Issued.UnixMilli(), Token: p.Token, Ticket: p.Ticket, Issuer: p.Issuer, Family: p.Family}
	if text.Until = until(p.Until); text.Until != 0 {
		text.Rooms = p.Rooms
	}
	for room, t := range p.Joins {
		if t := until(t); t != 0 {
			if text.Joins == nil {
				text.Joins = make(map[string]int64)
			}
			text.Joins[room] = t
		}
	}
	s := g.sealJSON(passVersion, &text)
	if len(s) > maxPass {
		text.Joins = nil
		s = g.sealJSON(passVersion, &text)
	}
	if len(s) > maxPass {
		text.Until, text.Rooms = 0, nil
		s = g.sealJSON(passVersion, &text)
	}
	return s
}

// Refusals of resume strings that are not enough by themselves.
var (
	// ErrPass and ErrTicketOver mean that the client must also send its token, or must send a new
	// ticket. It is not a guest, so the gateway must not admit it as one.
	ErrPass       = proto.Refuse(proto.Unauthorized, "this resume string is valid only together with its token; send the token")
	ErrTicketOver = proto.Refuse(proto.Unauthorized, "this resume string is no longer valid; get a new ticket")

	// ErrAnswerOver means that the string contains an answer of the backend whose time is over, or
	// that was for one session only. If the client opens a session, the gateway asks again.
	ErrAnswerOver = proto.Refuse(proto.Unauthorized, "the application's answer in this resume string was for one session, or its time is over; open a new session, or send what the application needs to know you")
)

// ReadPass returns the pass in a resume string of either version. The parameter token is the id
// in the client's token, or "" if the client has none.
//
// Without a token, the pass identifies the client: as a guest, or as the user whom the backend or
// a ticket has named. The pass of a user is valid until the time in Until. The error is one of
// those above, or ErrResume.
func (g *signer) ReadPass(s, token string) (*Pass, error) {
	if who, issued, err := g.Resume(s); err == nil {
		if token != "" {
			return nil, ErrResume
		}
		return &Pass{Who: who, Issued: issued}, nil
	}
	var text passText
	switch {
	case len(s) > maxPass || !g.openJSON(passVersion, s, &text):
		return nil, ErrResume
	case text.Token != "" && token == "":
		return nil, ErrPass
	case text.Token != token:
		return nil, ErrResume
	}
	p := &Pass{Who: proto.Identity{ID: text.ID, Name: text.Name}, Issued: time.UnixMilli(text.Issued), Token: text.Token, Rooms: text.Rooms, Ticket: text.Ticket, Issuer: text.Issuer, Family: text.Family}
	now := g.now()
	if until := time.Unix(text.Until, 0); until.After(now) {
		p.Until = until
	}
	for name, seconds := range text.Joins {
		room, err := proto.ParseRoom(name)
		if until := time.Unix(seconds, 0); err == nil && until.After(now) {
			p.Allow(room, until, now)
		}
	}
	guest := IsGuest(p.Who)
	switch age := now.Sub(p.Issued); {
	case p.Ticket && p.Until.IsZero():
		return nil, ErrTicketOver
	case guest && (age < -resumeAhead || age > g.resumeAge):
		return nil, ErrResume
	case !guest && token == "" && p.Until.IsZero():
		return nil, ErrAnswerOver
	}
	return p, nil
}

// IsGuest reports whether a gateway has made this identity for a client without a credential.
func IsGuest(who proto.Identity) bool { return strings.HasPrefix(who.ID, anonymous) }

// GrantOf returns the rights of a client. The parameter rooms contains the rights from the
// backend, and the parameter own contains the rights in the client's token. Each is nil if there
// are none. If both exist, the client gets only the rights that are in both.
func (a *Auth) GrantOf(rooms json.RawMessage, own *grant.Grant) (*grant.Grant, error) {
	if rooms == nil && own == nil {
		return a.defaults, nil
	}
	if rooms == nil {
		return own, nil
	}
	g, err := a.grants.parse(rooms)
	if err == nil && own != nil {
		g = g.Within(own)
	}
	return g, err
}
