package auth

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"roomcast/proto"
)

// SigningKeys contains the keys that sign resume strings and tickets. The bridge replaces them
// when roomsvc sends new ones. It is safe for concurrent use.
type SigningKeys struct {
	list atomic.Pointer[[]signingKey] // the newest first; never empty
}

// signingKey signs resume strings and tickets. Each string contains the name of its key, which is
// derived from the key's secret. A signingKey is immutable.
type signingKey struct {
	name   [keyName]byte
	secret [sha256.Size]byte
	from   time.Time // when it begins to sign
}

const (
	keyName   = 4 // bytes
	minSecret = 16
)

var errNoSigningKeys = errors.New("there are no signing keys")

// NewSigningKeys returns a SigningKeys with keys made of these secrets, the newest first.
func NewSigningKeys(secrets ...[]byte) *SigningKeys {
	k := new(SigningKeys)
	var list []proto.SigningKey
	for _, secret := range secrets {
		list = append(list, proto.SigningKey{Secret: secret})
	}
	k.Set(list)
	return k
}

// Set replaces the keys. The newest key comes first in the list. Set ignores an empty list.
func (k *SigningKeys) Set(keys []proto.SigningKey) {
	var list []signingKey
	for _, key := range keys {
		if len(key.Secret) >= minSecret {
			list = append(list, newSigningKey(key))
		}
	}
	if len(list) > 0 {
		k.list.Store(&list)
	}
}

func newSigningKey(key proto.SigningKey) signingKey {
	made := signingKey{from: time.UnixMilli(key.From)}
	copy(made.secret[:], derive(key.Secret, "roomcast resume v1", len(made.secret)))
	copy(made.name[:], derive(key.Secret, "roomcast key name", len(made.name)))
	return made
}

func derive(secret []byte, purpose string, length int) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, purpose, length)
	if err != nil {
		panic(err) // this cannot happen, because the length is a valid constant
	}
	return b
}

// check returns an error if there are no keys.
func (k *SigningKeys) check() error {
	if k.list.Load() == nil {
		return fmt.Errorf("make auth: %w", errNoSigningKeys)
	}
	return nil
}

// all returns the keys, the newest first.
func (k *SigningKeys) all() []signingKey { return *k.list.Load() }

// signing returns the newest key that may sign now. A key may sign only after the time in its
// field from. By then all gateways know the key.
func (k *SigningKeys) signing(now time.Time) *signingKey {
	list := k.all()
	for i := range list {
		if !list[i].from.After(now) {
			return &list[i]
		}
	}
	return &list[len(list)-1] // the clock of this gateway is behind
}

// find returns the key with the given name, or nil.
func (k *SigningKeys) find(name []byte) *signingKey {
	list := k.all()
	for i := range list {
		if bytes.Equal(list[i].name[:], name) {
			return &list[i]
		}
	}
	return nil
}

func (k *signingKey) tag(body []byte) []byte {
	mac := hmac.New(sha256.New, k.secret[:])
	mac.Write(body)
	return mac.Sum(nil)[:resumeTag]
}

// signed reports whether the tag at the end of b was made with this key.
func (k *signingKey) signed(b []byte) bool {
	body := len(b) - resumeTag
	return hmac.Equal(b[body:], k.tag(b[:body]))
}

// KnowsKeyOf reports whether this gateway knows the key that a resume string or ticket names. If
// the string names no key, it returns true.
func (g *signer) KnowsKeyOf(s string) bool {
	b, ok := decode(s)
	if !ok || len(b) < jsonHead+resumeTag || b[0] != passVersion && b[0] != ticketVersion {
		return true
	}
	return g.keys.find(b[1:jsonHead]) != nil
}

// decode returns the bytes of a resume string or ticket.
func decode(s string) ([]byte, bool) {
	if len(s) > maxTicket || strings.ContainsAny(s, "\r\n") { // encoding/base64 would ignore line ends
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil
}
