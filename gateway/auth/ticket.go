package auth

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"time"

	"roomcast/proto"
)

// Ticket opens one session for one user. The application requests the ticket with the HTTP API
// and gives it to the user's client.
type Ticket struct {
	Number  string // random; identifies the ticket, which can be used once
	Issuer  string // id of the API token that made the ticket
	Who     proto.Identity
	Rooms   json.RawMessage // the rights of the session
	Issued  time.Time
	Expires time.Time // until when the ticket can be used
	Until   time.Time // when the session and its resume strings end
}

// A ticket is the base64url encoding of
//
//	1 B version | 4 B name of the key | JSON | 16 B tag
//
// with the same tag as in resume strings. Times are in seconds since 1970.
type ticketText struct {
	Number  string          `json:"x"`
	Issuer  string          `json:"s"`
	ID      string          `json:"i"`
	Name    string          `json:"n,omitempty"`
	Rooms   json.RawMessage `json:"r"`
	Issued  int64           `json:"t"` // in milliseconds since 1970
	Expires int64           `json:"e"`
	Until   int64           `json:"u"`
}

const (
	ticketVersion = 3
	maxTicket     = 8 << 10 // the most characters; a grant has at most 4 KiB
)

// Refusals for tickets.
var (
	errTicketExpired = proto.Refuse(proto.Unauthorized, "the ticket has expired; get a new one")
	errTicketUsed    = proto.Refuse(proto.Unauthorized, "the ticket has been used before; get a new one")
	errTicketUnknown = proto.Refuse(proto.Unavailable, "the ticket cannot be checked now; get a new one").After(time.Second)
	errKeyUnknown    = proto.Refuse(proto.Unavailable, "the credential cannot be checked now; try again").After(time.Second)
)

// SignTicket returns the text of a ticket, with a new number.
func (g *signer) SignTicket(t *Ticket) string {
	return g.sealJSON(ticketVersion, ticketText{
		Number: rand.Text(), Issuer: t.Issuer, ID: t.Who.ID, Name: t.Who.Name, Rooms: t.Rooms,
		Issued: t.Issued.UnixMilli(), Expires: t.Expires.Unix(), Until: t.Until.Unix(),
	})
}

// ReadTicket parses and checks a ticket. It does not check whether the ticket was used before.
// The error is a *proto.Refusal.
func (g *signer) ReadTicket(s string) (*Ticket, error) {
	var text ticketText
	if len(s) > maxTicket || !g.openJSON(ticketVersion, s, &text) {
		return nil, refuse("this is not a ticket of this server")
	}
	t := &Ticket{
		Number: text.Number, Issuer: text.Issuer, Who: proto.Identity{ID: text.ID, Name: text.Name}, Rooms: text.Rooms,
		Issued: time.UnixMilli(text.Issued), Expires: time.Unix(text.Expires, 0), Until: time.Unix(text.Until, 0),
	}
	if now := g.now(); !t.Expires.After(now) || !t.Until.After(now) || t.Expires.Sub(now) > proto.MaxTicket+Leeway {
		return nil, errTicketExpired
	}
	return t, nil
}

// TicketRefusal returns the refusal for a ticket that was used before. If used is false, it
// returns the refusal for a ticket that the gateway could not check.
func TicketRefusal(used bool) error {
	if used {
		return errTicketUsed
	}
	return errTicketUnknown
}

// KeyUnknown returns the refusal for a resume string or ticket if the gateway could not look up
// the key that signed it.
func KeyUnknown() error { return errKeyUnknown }

// Pass returns what the ticket allows, for use in resume strings.
func (t *Ticket) Pass() Pass {
	return Pass{Who: t.Who, Rooms: t.Rooms, Until: t.Until, Issued: t.Issued, Issuer: t.Issuer, Ticket: true}
}

// jsonHead is the number of bytes before the JSON.
const jsonHead = 1 + keyName

// sealJSON returns a signed string that contains v as JSON. Version is its first byte.
func (g *signer) sealJSON(version byte, v any) string {
	j, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot happen: the grant is checked JSON
	}
	key := g.keys.signing(g.now())
	b := append(append([]byte{version}, key.name[:]...), j...)
	return base64.RawURLEncoding.EncodeToString(append(b, key.tag(b)...))
}

// openJSON reads a string that sealJSON has returned. It returns false for every other string.
func (g *signer) openJSON(version byte, s string, v any) bool {
	b, ok := decode(s)
	if !ok || len(b) < jsonHead+resumeTag || b[0] != version {
		return false
	}
	key := g.keys.find(b[1:jsonHead])
	return key != nil && key.signed(b) && json.Unmarshal(b[jsonHead:len(b)-resumeTag], v) == nil
}
