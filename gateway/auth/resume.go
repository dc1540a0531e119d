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

// A resume string of version 0.1.0 is the base64url encoding of
//
//	1 B version | 8 B time of issue, in seconds since 1970 | 1 B length of the id | id | name | 16 B tag
//
// The tag is the first half of the HMAC-SHA256 of all bytes before it. This string does not name
// the key that signed it. The file pass.go describes the strings of newer versions.
const (
	// resumeAhead is how far in the future the time of issue may be. The tag proves that a
	// gateway has issued the string. So such a time only means that the clocks of gateways
	// differ. The bound is generous, because a refused client gets a new identity. If this
	// client sends an old message again, the message is stored twice.
	resumeAhead = 24 * time.Hour

	resumeVersion = 1
	resumeHead    = 1 + 8 + 1
	resumeTag     = 16
	maxResume     = 400 // the most characters; Sign returns at most 306
)

// ErrResume is the error for a resume string that is forged, damaged or too old. The session
// then continues with a new identity.
var ErrResume = errors.New("resume string is invalid or too old")

// signer signs and reads resume strings and tickets. It is safe for concurrent use.
type signer struct {
	keys      *SigningKeys
	resumeAge time.Duration
	now       func() time.Time
}

// Sign returns a resume string for the identity who. A client that sends this string gets the
// same identity again, at any gateway with the same keys. The string is valid until
// [Config.ResumeAge] after issued, the time of the identity's first resume string. So a client
// cannot extend the time by fetching new strings.
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

// Resume returns the identity in a string that Sign has returned, and the string's time of issue.
// For any other string it returns ErrResume. It accepts only anonymous identities, because a
// client with a token must present its token again.
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
