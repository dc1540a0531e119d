// Package seal encrypts payloads, so that operators of NATS cannot read them. NATS transports
// and stores sealed payloads as envelopes of XChaCha20-Poly1305. Room names, subjects and
// headers remain readable.
//
// An envelope is
//
//	0x02 | key id, 4 bytes | nonce, 24 bytes | ciphertext and tag
//
// so it is 45 bytes longer than its content. The key is derived from the secret with
// HKDF-SHA256. The additional data of the encryption binds an envelope to its key, its room, its
// purpose and its headers. So nobody can pass a sealed message to another room, use it as a
// record, or change its sender, its key or its seq. A nonce has 192 random bits, so there is no
// limit on the number of messages that one key may seal.
package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"roomcast/proto"
)

// Version is the first byte of an envelope.
const Version = 2

// Mark is the value of [proto.HeaderEnc]: the version as text.
const Mark = "2"

// The purposes for which a payload is sealed.
const (
	In        = "in"  // a request to roomsvc
	Log       = "log" // a committed record
	Ephemeral = "eph" // signals, joins and leaves
	Who       = "who" // a gateway's answer about the people in a room
	Event     = "evt" // an event for applications about people who have joined or left
)

const (
	idSize   = 4
	prefix   = 1 + idSize
	overhead = prefix + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// Errors of [Keys.Open].
var (
	ErrNoKey    = errors.New("sealed with an unknown key; give its file with --encryption-key-file")
	ErrEnvelope = errors.New("not a sealed payload")
	ErrTampered = errors.New("the payload or its headers were changed, or it was sealed for another room or purpose")
	ErrPlain    = errors.New("not sealed, although this process has keys; start it with --encryption-accept-plain while a log is being changed to encryption")
)

// Keys seals with its first key, and opens with any of its keys. To replace a key, first give
// all processes the new key as their second key. Then make the new key the first. Remove the old
// key when the log contains no more records that were sealed with it. A nil *Keys seals nothing.
// After AcceptPlain is set, a Keys is safe for concurrent use.
type Keys struct {
	// AcceptPlain makes Open accept records, signals and presence that are not sealed. It is for
	// the time after a log without encryption has been switched to encryption.
	AcceptPlain bool

	keys []key
}

type key struct {
	id     [idSize]byte
	aead   cipher.AEAD
	digest [sha256.Size]byte // key of the keyed hash for digests
}

// New derives keys from secrets of at least 32 bytes each. Most callers use [Load] instead.
func New(secrets ...[]byte) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	k := new(Keys)
	for i, secret := range secrets {
		derived, err := hkdf.Key(sha256.New, secret, nil, "room/v1", chacha20poly1305.KeySize)
		if err != nil {
			return nil, fmt.Errorf("derive key: %w", err)
		}
		aead, err := chacha20poly1305.NewX(derived)
		if err != nil {
			return nil, fmt.Errorf("derive key: %w", err)
		}
		digest, err := hkdf.Key(sha256.New, secret, nil, "room/digest", sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive key: %w", err)
		}
		sum := sha256.Sum256(derived)
		one := key{id: [idSize]byte(sum[:]), aead: aead, digest: [sha256.Size]byte(digest)}
		for j, other := range k.keys {
			if other.id == one.id {
				return nil, fmt.Errorf("keys %d and %d are the same", j+1, i+1)
			}
		}
		k.keys = append(k.keys, one)
	}
	return k, nil
}

// Seal returns an envelope with the content plain. It can be opened only with the same room,
// purpose and headers. If k is nil, Seal returns plain.
func (k *Keys) Seal(room proto.Room, purpose, headers string, plain []byte) []byte {
	if k == nil {
		return plain
	}
	first := &k.keys[0]
	b := make([]byte, prefix+chacha20poly1305.NonceSizeX, overhead+len(plain))
	b[0] = Version
	copy(b[1:], first.id[:])
	nonce := b[prefix:]
	rand.Read(nonce) // this never fails, see crypto/rand
	return first.aead.Seal(b, nonce, plain, bound(b[:prefix], room, purpose, headers))
}

// Open returns the content of an envelope that [Keys.Seal] has made.
func (k *Keys) Open(room proto.Room, purpose, headers string, sealed []byte) ([]byte, error) {
	if len(sealed) < overhead || sealed[0] != Version {
		return nil, fmt.Errorf("open payload: %w", ErrEnvelope)
	}
	if k == nil {
		return nil, fmt.Errorf("open payload: %w", ErrNoKey)
	}
	id := [idSize]byte(sealed[1:prefix])
	for i := range k.keys {
		if k.keys[i].id != id {
			continue
		}
		nonce := sealed[prefix : prefix+chacha20poly1305.NonceSizeX]
		plain, err := k.keys[i].aead.Open(nil, nonce, sealed[prefix+len(nonce):], bound(sealed[:prefix], room, purpose, headers))
		if err != nil {
			return nil, fmt.Errorf("open payload: %w", ErrTampered)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("open payload: %w", ErrNoKey)
}

// SealMessage seals the payload of a message with the headers h, and adds [proto.HeaderEnc] to
// them. If k is nil, it returns plain.
func (k *Keys) SealMessage(room proto.Room, purpose string, h map[string][]string, plain []byte) []byte {
	if k == nil {
		return plain
	}
	h[proto.HeaderEnc] = []string{Mark}
	return k.Seal(room, purpose, Headers(h), plain)
}

// OpenMessage opens the payload of a message with the headers h. If k is not nil, OpenMessage
// refuses a message that is not sealed, unless AcceptPlain is set.
func (k *Keys) OpenMessage(room proto.Room, purpose string, h map[string][]string, payload []byte) ([]byte, error) {
	if len(h[proto.HeaderEnc]) == 0 {
		return payload, k.CheckPlain()
	}
	return k.Open(room, purpose, Headers(h), payload)
}

// OpenRecord opens the payload of a record. The parameter header is the value of the record's
// [proto.HeaderRecord]. If k is not nil, OpenRecord refuses a record that is not sealed, unless
// AcceptPlain is set.
func (k *Keys) OpenRecord(r *proto.Record, header string) error {
	if !r.Sealed {
		return k.CheckPlain()
	}
	plain, err := k.Open(r.Room, Log, header, r.Payload)
	if err != nil {
		return err
	}
	if _, ok := r.Text.Content(plain); !ok {
		return fmt.Errorf("open payload: %w", ErrTampered)
	}
	r.Payload = plain
	return nil
}

// CheckPlain returns [ErrPlain] if payloads that are not sealed must be refused.
func (k *Keys) CheckPlain() error {
	if k != nil && !k.AcceptPlain {
		return ErrPlain
	}
	return nil
}

// Headers returns the headers to which an envelope is bound, as one string. These are all
// headers that begin with Rc-, sorted, except [proto.HeaderEnc].
func Headers(h map[string][]string) string {
	names := make([]string, 0, 8)
	for name := range h {
		if strings.HasPrefix(name, "Rc-") && name != proto.HeaderEnc {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		for _, value := range h[name] {
			b.WriteString(name)
			b.WriteByte(':')
			b.WriteString(value)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// Digests returns the digests of a request for all keys. The first digest is the one to store. The
// other digests recognise requests that were stored with older keys. Without keys, the digest is a
// plain hash. With keys it is a keyed hash, because a plain hash would let a reader of the header
// guess a short text.
func (k *Keys) Digests(covered []byte) []proto.Digest {
	if k == nil {
		sum := sha256.Sum256(covered)
		return []proto.Digest{proto.Digest(sum[:len(proto.Digest{})])}
	}
	out := make([]proto.Digest, len(k.keys))
	for i := range k.keys {
		mac := hmac.New(sha256.New, k.keys[i].digest[:])
		mac.Write(covered)
		out[i] = proto.Digest(mac.Sum(nil)[:len(proto.Digest{})])
	}
	return out
}

// bound returns the additional data of an envelope's encryption. Its parts are separated by zero
// bytes, which neither room names nor purposes contain.
func bound(head []byte, room proto.Room, purpose, headers string) []byte {
	ad := make([]byte, 0, prefix+proto.MaxRoomBytes+2+len(purpose)+len(headers))
	ad = append(ad, head...)
	ad = append(ad, room.String()...)
	ad = append(ad, 0)
	ad = append(ad, purpose...)
	ad = append(ad, 0)
	return append(ad, headers...)
}
