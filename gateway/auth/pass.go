package auth

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	"roomcast/proto"
	"roomcast/proto/grant"
)

// A Pass is what the application's backend, or its ticket, has allowed a client. The client's resume string
// carries it, so that a client that comes back causes no question. A Pass without a time in
// Until only says who a guest is.
type Pass struct {
	Who    proto.Identity
	Issued time.Time            // of the first string of a guest
	Token  string               // the id in the client's token, without which the pass counts nothing; "" = it had none
	Rooms  json.RawMessage      // the backend's grant; nil = it gave none
	Until  time.Time            // when the answer to connect ends; zero = there is none, or it held for its session
	Joins  map[string]time.Time // rooms that the client may join, and until when
	Ticket bool                 // a ticket said so, not an answer to connect
	Issuer string               // of the ticket
	Family string               // the session of the first string, from which the later ones follow
}

// maxJoins bounds the rooms of one Pass.
const maxJoins = 64

// passText is a pass as JSON. The times are seconds since 1970, and milliseconds in Issued.
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

// A pass in a resume string is base64url of
//
//	1 B version | 4 B name of the key | JSON | 16 B tag
//
// with the same tag as other resume strings.
const (
	passVersion = 2
	maxPass     = 2 << 10 // characters
	maxPassAge  = 24 * time.Hour
)

// Empty reports whether the pass allows nothing at that time.
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

// Allow remembers that the client may join a room.
func (p *Pass) Allow(room proto.Room, until, now time.Time) {
	maps.DeleteFunc(p.Joins, func(_ string, until time.Time) bool { return !until.After(now) })
	if p.Joins == nil {
		p.Joins = make(map[string]time.Time)
	}
	if _, known := p.Joins[room.String()]; known || len(p.Joins) < maxJoins {
		p.Joins[room.String()] = until
	}
}

// MayJoin reports whether the backend has allowed the room.
func (p *Pass) MayJoin(room proto.Room, now time.Time) bool { return p.Joins[room.String()].After(now) }

// SignPass returns a resume string with the pass. A grant or rooms that would make it too long
// are left out: the backend is asked again.
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

// ErrPass is the refusal of a resume string whose holder must show a token or a new ticket. The
// holder is not a guest, so it does not become one.
var ErrPass = proto.Refuse(proto.Unauthorized, "this resume string needs its token, or a new ticket")

// ReadPass returns the pass in a resume string of either form, ErrPass or ErrResume. Token is the id
// in the client's token; "" = it has none. Without a token, a pass tells who the client is:
// a guest, or whom the backend named, as long as its answer holds.
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
		return nil, ErrPass
	case guest && (age < -resumeAhead || age > g.resumeAge),
		!guest && token == "" && p.Until.IsZero():
		return nil, ErrResume
	}
	return p, nil
}

// IsGuest reports whether a gateway made the identity.
func IsGuest(who proto.Identity) bool { return strings.HasPrefix(who.ID, anonymous) }

// GrantOf returns the rights of a client to which the backend gave the grant rooms; nil = the
// backend named none. Own are the rights in the client's token; nil = it has none.
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
