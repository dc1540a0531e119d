package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/proto"
	"roomcast/proto/grant"
)

const (
	maxToken = 12 << 10 // bytes

	// Leeway is how much the clocks of an issuer and a gateway may differ. It applies to exp,
	// nbf and iat.
	Leeway = 5 * time.Second
)

// Holder describes the client that a token identifies, with the client's rights.
type Holder struct {
	Who     proto.Identity
	Grant   *grant.Grant
	Issued  time.Time // the time in iat
	Expires time.Time // the time in exp; the session ends a little later, at End
}

// End returns when a session with this token must end.
func (h *Holder) End() time.Time { return h.Expires.Add(Leeway) }

// Refusals of tokens that a client handles in different ways.
var (
	errExpired = proto.Refuse(proto.Unauthorized, "the token has expired; get a new one")
	errNoKeys  = proto.Refuse(proto.Unavailable, "the keys that check this token cannot be read now; try again").After(time.Second)
	errBusy    = proto.Refuse(proto.Overloaded, "this gateway checks too many tokens at once; try again").After(time.Second)
)

// CloseCode returns the close code for an error of Token or Check.
func CloseCode(err error) proto.CloseCode {
	switch {
	case errors.Is(err, errExpired), errors.Is(err, errRenew), errors.Is(err, errTicketExpired), errors.Is(err, errTicketUsed), errors.Is(err, ErrPass), errors.Is(err, ErrTicketOver):
		return proto.CloseTokenExpired
	case errors.Is(err, errNoKeys), errors.Is(err, errTicketUnknown), errors.Is(err, errKeyUnknown):
		return proto.CloseUnavailable
	case errors.Is(err, errBusy):
		return proto.CloseShed
	}
	return proto.CloseBadToken
}

// claims contains the claims of a token that this package uses. Their names are compared
// exactly. A repeated name is an error.
type claims struct {
	sub   string // "" = absent
	name  string
	iss   string
	aud   jwt.ClaimStrings
	exp   *jwt.NumericDate
	nbf   *jwt.NumericDate
	iat   *jwt.NumericDate
	rooms json.RawMessage // nil = absent
}

var _ jwt.Claims = (*claims)(nil)

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.iat, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.iss, nil }
func (c *claims) GetSubject() (string, error)                  { return c.sub, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.aud, nil }

// UnmarshalJSON reads the claims.
func (c *claims) UnmarshalJSON(b []byte) error {
	members, err := grant.ObjectMembers(b)
	if err != nil {
		return refuse("the token's claims: %v", err)
	}
	for _, m := range members {
		switch m.Name {
		case "sub":
			c.sub, err = parseSubject(m.Value)
		case "name":
			err = json.Unmarshal(m.Value, &c.name)
		case "iss":
			err = json.Unmarshal(m.Value, &c.iss)
		case "aud":
			err = json.Unmarshal(m.Value, &c.aud)
		case "exp":
			c.exp, err = parseDate(m.Value)
		case "nbf":
			c.nbf, err = parseDate(m.Value)
		case "iat":
			c.iat, err = parseDate(m.Value)
		case "rooms":
			c.rooms = m.Value
		}
		if err != nil {
			return refuse("the token's %s is not valid; %s", m.Name, claimRules[m.Name])
		}
	}
	return nil
}

// claimRules says what each claim must be.
var claimRules = map[string]string{
	"sub":  fmt.Sprintf("it must be a text of 1 to %d bytes, or a whole number up to 2^53", proto.MaxIDBytes),
	"name": "it must be a text",
	"iss":  "it must be a text",
	"aud":  "it must be a text, or a list of texts",
	"exp":  "it must be a number of seconds since 1970",
	"nbf":  "it must be a number of seconds since 1970",
	"iat":  "it must be a number of seconds since 1970",
}

// parseSubject reads an id. The id may also be a number, because some services use numbers for
// their users.
func parseSubject(value []byte) (string, error) {
	var text string
	if json.Unmarshal(value, &text) == nil {
		if text == "" || strings.ContainsRune(text, '\uFFFD') { // encoding/json turns half a surrogate pair into U+FFFD
			return "", errors.New("not text")
		}
		return text, nil
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n > 1<<53 || n < -1<<53 || strconv.FormatInt(n, 10) != string(value) {
		return "", errors.New("neither text nor a whole number")
	}
	return string(value), nil
}

// parseDate reads a time in seconds since 1970, up to the year 9999.
func parseDate(value []byte) (*jwt.NumericDate, error) {
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || !(seconds >= 0 && seconds < 253402300800) {
		return nil, errors.New("not a date")
	}
	return jwt.NewNumericDate(time.Unix(int64(seconds), 0)), nil
}

var parser = jwt.NewParser(
	jwt.WithExpirationRequired(),
	jwt.WithIssuedAt(),
	jwt.WithLeeway(Leeway),
	jwt.WithStrictDecoding(),
)

// Token checks a token and returns its holder. Every error is a *proto.Refusal, and never
// contains the token. A call may take a millisecond, so event loops call Check instead.
func (a *Auth) Token(token string) (Holder, error) {
	if len(a.issuers) == 0 {
		return Holder{}, refuse("this server accepts no tokens; connect without one")
	}
	if len(token) > maxToken {
		return Holder{}, refuse("the token has %d bytes; the limit is %d", len(token), maxToken)
	}
	if strings.ContainsAny(token, "\r\n") { // encoding/base64 would ignore them
		return Holder{}, refuse(notAToken)
	}
	var c claims
	var from *issuer
	_, err := parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		var public []any
		var err error
		from, public, err = a.findKeys(t, &c)
		set := jwt.VerificationKeySet{}
		for _, k := range public {
			set.Keys = append(set.Keys, k)
		}
		return set, err
	})
	if err != nil {
		return Holder{}, refuseToken(err)
	}
	if !from.accepts(c.aud) {
		return Holder{}, refuse("the token is for another service; its aud must be one of --auth-audience")
	}
	if c.iat == nil {
		return Holder{}, refuse("the token has no iat, the time of its issue, which revocations need")
	}
	h := Holder{Expires: c.exp.Time, Issued: c.iat.Time}
	if h.Expires.Sub(h.Issued) > a.maxAge {
		return Holder{}, refuse("the token lives longer than this server accepts, which is %v from iat to exp", a.maxAge)
	}
	if h.Who, err = a.identityOf(from, &c); err != nil {
		return Holder{}, err
	}
	if err := a.revoked.Check(h.Who.ID, "", h.Issued); err != nil {
		return Holder{}, err
	}
	if h.Grant = a.defaults; c.rooms != nil {
		if h.Grant, err = a.grants.parse(c.rooms); err != nil {
			return Holder{}, refuse("the token's %v", err)
		}
	}
	return h, nil
}

// findKeys returns the issuer of a token, and the keys of this issuer that may check the token.
// The claim iss only selects the issuer. Nobody gains anything by forging iss, because the
// signature must then match a key of the selected issuer.
func (a *Auth) findKeys(t *jwt.Token, c *claims) (*issuer, []any, error) {
	if _, has := t.Header["crit"]; has {
		return nil, nil, refuse("the token has a crit header, which this server does not know")
	}
	if typ, has := t.Header["typ"]; has {
		if text, _ := typ.(string); !strings.EqualFold(text, "JWT") && !strings.EqualFold(text, "at+jwt") {
			return nil, nil, refuse("the token's typ is neither JWT nor at+jwt")
		}
	}
	kid, isText := t.Header["kid"].(string)
	if _, has := t.Header["kid"]; has && !isText {
		return nil, nil, refuse("the token's kid is not text")
	}
	candidates := a.candidates(c.iss)
	later := false
	for _, is := range candidates {
		public, ready := is.find(kid, t.Method.Alg())
		later = later || !ready
		// If the keys of several issuers have no kid, only the signature shows which issuer made
		// the token.
		if len(public) > 0 && (len(candidates) == 1 || verifies(t, public)) {
			return is, public, nil
		}
	}
	if len(candidates) == 0 {
		return nil, nil, refuse("the token's iss is not one of --auth-issuer")
	}
	for _, is := range candidates {
		later = is.missed() || later
	}
	if later {
		return nil, nil, errNoKeys
	}
	return nil, nil, refuse("the token's signature does not match this server's keys and algorithms")
}

// candidates returns the issuers that may have made a token with this iss. These are the issuers
// for which --auth-issuer names iss. If there are none, these are the issuers without
// --auth-issuer.
func (a *Auth) candidates(iss string) []*issuer {
	var named, others []*issuer
	for _, is := range a.issuers {
		switch {
		case slices.Contains(is.iss, iss):
			named = append(named, is)
		case len(is.iss) == 0:
			others = append(others, is)
		}
	}
	if len(named) > 0 {
		return named
	}
	return others
}

func verifies(t *jwt.Token, public []any) bool {
	text := t.Raw[:strings.LastIndexByte(t.Raw, '.')]
	return slices.ContainsFunc(public, func(k any) bool { return t.Method.Verify(text, t.Signature, k) == nil })
}

// identityOf returns the identity that the claims describe.
func (a *Auth) identityOf(from *issuer, c *claims) (proto.Identity, error) {
	none := proto.Identity{}
	if c.sub == "" {
		return none, refuse("the token has no sub")
	}
	if r := proto.CheckID(c.sub); r != nil {
		return none, refuse("the token's sub is not a valid id: %s", r.Message)
	}
	who := proto.Identity{ID: c.sub, Name: c.name}
	if from.name != "" {
		who.ID = from.name + ":" + c.sub
		if r := proto.CheckID(who.ID); r != nil {
			return none, refuse("the token's sub is not a valid id: %s", r.Message)
		}
	} else if a.IssuerOf(c.sub) != "" {
		return none, refuse("the token's sub begins with the name of another issuer")
	}
	if proto.ReservedID(who.ID) {
		return none, refuse("the token's sub is an id that only Roomcast itself uses")
	}
	if r := proto.CheckName(c.name); r != nil {
		return none, refuse("the token's name is not valid: %s", r.Message)
	}
	return who, nil
}

// IssuerOf returns the name of the issuer whose prefix an id has. An id without such a prefix
// comes from the issuer without a name, and IssuerOf returns "".
func (a *Auth) IssuerOf(id string) string {
	for _, is := range a.issuers {
		if is.name != "" && strings.HasPrefix(id, is.name+":") {
			return is.name
		}
	}
	return ""
}

// notAToken refuses what is no JSON Web Token. A likely mistake is to send an API token here, which
// only the HTTP API accepts.
const notAToken = "the token is not a JSON Web Token; send a user's token or a ticket, not an API token"

func refuse(format string, args ...any) *proto.Refusal {
	return proto.Refuse(proto.Unauthorized, "%s", fmt.Sprintf(format, args...))
}

func refuseToken(err error) *proto.Refusal {
	if r, ok := errors.AsType[*proto.Refusal](err); ok {
		return r
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		return errExpired
	}
	for _, known := range []struct {
		err error
		say string
	}{
		{jwt.ErrTokenNotValidYet, "the token is not valid yet; check its nbf and the clocks"},
		{jwt.ErrTokenUsedBeforeIssued, "the token was issued in the future; check the clocks"},
		{jwt.ErrTokenRequiredClaimMissing, "the token has no exp; tokens must expire"},
		{jwt.ErrTokenMalformed, notAToken},
		{jwt.ErrTokenSignatureInvalid, "the token's signature does not match this server's keys and algorithms"},
	} {
		if errors.Is(err, known.err) {
			return refuse("%s", known.say)
		}
	}
	return refuse("the token is not accepted")
}

// TakesAuth reports whether a client without rights can get rights with a token or a ticket.
func (a *Auth) TakesAuth() bool { return a.tickets || a.TakesTokens() }

// TakesTokens reports whether the gateway accepts tokens.
func (a *Auth) TakesTokens() bool { return len(a.issuers) > 0 }
