package auth

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"roomcast/proto"
)

// A resume string is base64url of
//
//	1 B version | 8 B seconds since 1970 | 1 B length of the id | id | name | 16 B tag
//
// where the tag is the first half of HMAC-SHA256 over what stands before it.
const (
	resumeVersion = 1
	resumeHead    = 1 + 8 + 1
	resumeTag     = 16
	maxResume     = 400 // characters; 306 are the most Sign makes
)

// ErrResume is returned for a resume string that is forged, damaged or too old. Who
// shows one becomes a new identity; it is not an error of the session.
var ErrResume = errors.New("resume string is not valid here or too old")

func deriveResumeKey(secret []byte) (key [sha256.Size]byte) {
	k, err := hkdf.Key(sha256.New, secret, nil, "roomcast resume v1", len(key))
	if err != nil {
		panic(err) // the length is a constant that HKDF can make
	}
	copy(key[:], k)
	return key
}

// Sign returns the opaque string that makes the holder who again, at any gateway with
// the same secret, for as long as a resume string is accepted.
func (a *Auth) Sign(who proto.Identity) string {
	b := make([]byte, 0, resumeHead+len(who.ID)+len(who.Name)+resumeTag)
	b = append(b, resumeVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(a.now().Unix()))
	b = append(b, byte(len(who.ID)))
	b = append(b, who.ID...)
	b = append(b, who.Name...)
	b = append(b, a.tag(b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Resume returns whom Sign signed, or ErrResume. Only anonymous identities come back
// this way: who has a token must show one that has not run out.
func (a *Auth) Resume(s string) (proto.Identity, error) {
	if len(s) > maxResume || strings.ContainsAny(s, "\r\n") {
		return proto.Identity{}, ErrResume
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < resumeHead+resumeTag || b[0] != resumeVersion {
		return proto.Identity{}, ErrResume
	}
	body, tag := b[:len(b)-resumeTag], b[len(b)-resumeTag:]
	if !hmac.Equal(tag, a.tag(body)) {
		return proto.Identity{}, ErrResume
	}
	age := a.now().Sub(time.Unix(int64(binary.BigEndian.Uint64(body[1:])), 0))
	idEnd := resumeHead + int(body[resumeHead-1])
	// A clock that is a little ahead on another gateway is no forgery.
	if age < -5*time.Minute || age > a.resumeAge || idEnd > len(body) {
		return proto.Identity{}, ErrResume
	}
	who := proto.Identity{ID: string(body[resumeHead:idEnd]), Name: string(body[idEnd:])}
	if !strings.HasPrefix(who.ID, anonymous) || proto.CheckID(who.ID) != nil || proto.CheckName(who.Name) != nil {
		return proto.Identity{}, ErrResume
	}
	return who, nil
}

func (a *Auth) tag(body []byte) []byte {
	mac := hmac.New(sha256.New, a.resumeKey[:])
	mac.Write(body)
	return mac.Sum(nil)[:resumeTag]
}
