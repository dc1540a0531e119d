// Package seal keeps payloads unreadable to whoever runs the bus: what travels through
// NATS and rests in the stream is an envelope of XChaCha20-Poly1305. Names of rooms,
// subjects and headers stay readable.
//
// An envelope is
//
//	0x01 | key id, 4 bytes | nonce, 24 bytes | ciphertext and tag
//
// 45 bytes longer than what it holds. The key is HKDF-SHA256 of the secret; the
// additional data binds an envelope to its key, its room and its purpose, so that a
// sealed message cannot be replayed into another room or pass for a record. With random
// nonces of 192 bits one key may seal as many messages as anybody will ever send.
package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"roomcast/proto"
)

// Version is the first byte of an envelope, and as a digit the value of
// [proto.HeaderEnc].
const Version = 1

// The purposes an envelope can have.
const (
	In        = "in"  // what is said, on its way to roomsvc
	Log       = "log" // a committed record
	Ephemeral = "eph" // signals, joins and leaves
)

const (
	idSize   = 4
	prefix   = 1 + idSize
	overhead = prefix + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// Errors of [Keys.Open].
var (
	ErrNoKey    = errors.New("sealed with a key that is not here; give its file with --encryption-key-file")
	ErrEnvelope = errors.New("not a sealed payload")
	ErrTampered = errors.New("the sealed payload was changed, or sealed for another room or purpose")
)

// Keys seals with its first key and opens with all of them, so that keys can be
// rotated: add the new one second everywhere, then move it first, then drop the old
// one when the log no longer holds anything it sealed. A nil *Keys seals nothing. Keys
// are safe for concurrent use.
type Keys struct {
	keys []key
}

type key struct {
	id   [idSize]byte
	aead cipher.AEAD
}

// New makes keys of secrets of at least 32 bytes each. Most callers want [Load].
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
		sum := sha256.Sum256(derived)
		one := key{id: [idSize]byte(sum[:]), aead: aead}
		for j, other := range k.keys {
			if other.id == one.id {
				return nil, fmt.Errorf("keys %d and %d are the same", j+1, i+1)
			}
		}
		k.keys = append(k.keys, one)
	}
	return k, nil
}

// Seal returns plain in an envelope that opens only for the same room and purpose. Nil
// keys return plain itself.
func (k *Keys) Seal(room proto.Room, purpose string, plain []byte) []byte {
	if k == nil {
		return plain
	}
	first := &k.keys[0]
	b := make([]byte, prefix+chacha20poly1305.NonceSizeX, overhead+len(plain))
	b[0] = Version
	copy(b[1:], first.id[:])
	nonce := b[prefix:]
	rand.Read(nonce) // never fails, see crypto/rand
	return first.aead.Seal(b, nonce, plain, bound(b[:prefix], room, purpose))
}

// Open returns what Seal was given. The caller has seen by [proto.HeaderEnc] that the
// payload is sealed.
func (k *Keys) Open(room proto.Room, purpose string, sealed []byte) ([]byte, error) {
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
		plain, err := k.keys[i].aead.Open(nil, nonce, sealed[prefix+len(nonce):], bound(sealed[:prefix], room, purpose))
		if err != nil {
			return nil, fmt.Errorf("open payload: %w", ErrTampered)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("open payload: %w", ErrNoKey)
}

// bound is the additional data of an envelope. A room name holds no zero byte.
func bound(head []byte, room proto.Room, purpose string) []byte {
	ad := make([]byte, 0, prefix+proto.MaxRoomBytes+1+len(purpose))
	ad = append(ad, head...)
	ad = append(ad, room.String()...)
	ad = append(ad, 0)
	return append(ad, purpose...)
}
