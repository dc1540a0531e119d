package auth

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"roomcast/proto"
)

// A resume string of version 0.1.0 is base64url of
//
//	1 B version | 8 B time of issue, in seconds since 1970 | 1 B length of the id | id | name | 16 B tag
//
// The tag is the first half of HMAC-SHA256 over everything before it. The string does not name its
// key. Strings of newer versions are in pass.go.
const (
	// resumeAhead is how far in the future the time of issue may be. The tag proves that a gateway
	// issued the string, so this only bounds the difference of the gateways' clocks. The bound is
	// generous, because a client that gets a new identity could store a message a second time.
	resumeAhead = 24 * time.Hour

	resumeVersion = 1
	resumeHead    = 1 + 8 + 1
	resumeTag     = 16
	maxResume     = 400 // characters; Sign returns at most 306
)

// ErrResume reports a resume string that is forged, damaged or too old. The session then
// continues with a new identity.
var ErrResume = errors.New("resume string is invalid or too old")

// signer signs resume strings and tickets, and reads them. It is safe for concurrent use.
type signer struct {
	keys      *SigningKeys
	resumeAge time.Duration
	now       func() time.Time
}

// Sign returns an opaque string. A client that sends it back gets the identity who again, at any
// gateway with the same secret, until [Config.ResumeAge] after issued. Issued is the time of the
// identity's first string, so renewing a string does not extend its life.
func (g *signer) Sign(who proto.Identity, issued time.Time) string {
	b := make([]byte, 0, resumeHead+len(who.ID)+len(who.Name)+resumeTag)
	b = append(b, resumeVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(issued.Unix()))
	b = append(b, byte(len(who.ID)))
	b = append(b, who.ID...)
	b = append(b, who.Name...)
	b = append(b, g.keys.signing(g.now()).tag(b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Resume returns the identity and the time of issue of a string from Sign, or ErrResume. It
// accepts only anonymous identities: a client with a token must present its token again.
func (g *signer) Resume(s string) (who proto.Identity, issued time.Time, err error) {
	b, ok := decode(s)
	if !ok || len(s) > maxResume || len(b) < resumeHead+resumeTag || b[0] != resumeVersion {
		return proto.Identity{}, time.Time{}, ErrResume
	}
	if !slices.ContainsFunc(g.keys.all(), func(k signingKey) bool { return k.signed(b) }) {
		return proto.Identity{}, time.Time{}, ErrResume
	}
	body := b[:len(b)-resumeTag]
	issued = time.Unix(int64(binary.BigEndian.Uint64(body[1:])), 0)
	age := g.now().Sub(issued)
	idEnd := resumeHead + int(body[resumeHead-1])
	if age < -resumeAhead || age > g.resumeAge || idEnd > len(body) {
		return proto.Identity{}, time.Time{}, ErrResume
	}
	who = proto.Identity{ID: string(body[resumeHead:idEnd]), Name: string(body[idEnd:])}
	if !strings.HasPrefix(who.ID, anonymous) || proto.CheckID(who.ID) != nil || proto.CheckName(who.Name) != nil {
		return proto.Identity{}, time.Time{}, ErrResume
	}
	return who, issued, nil
}
