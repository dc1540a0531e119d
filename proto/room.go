package proto

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Limits of a room name. The byte bound keeps every subject far below the NATS
// control line of 4096 bytes, beyond which the server drops the connection.
const (
	MaxRoomRunes = 64
	MaxRoomBytes = 200
)

// Partitions is the number of slices the rooms are divided into. It is permanent:
// subjects on disk carry it, and the stream's metadata is checked against it.
const Partitions = 64

// ErrRoomName is wrapped by every error of [ParseRoom].
var ErrRoomName = errors.New("bad room name")

// Room is a valid room name. Only [ParseRoom] makes one, and no subject is built
// from anything else, so that no name can reach NATS as a wildcard, as a second
// token or as a control line that is too long. Names are compared bytewise and
// never normalised. The zero Room is "no room".
type Room struct{ name string }

// ParseRoom checks name: letters, digits and underscore of any script
// (Go [\p{L}\p{N}_]+, Python \w+), 1 to [MaxRoomRunes] code points, at most
// [MaxRoomBytes] bytes of valid UTF-8. Its errors wrap [ErrRoomName] and say what
// is wrong; they never repeat the name.
func ParseRoom(name string) (Room, error) {
	if name == "" {
		return Room{}, fmt.Errorf("%w: it is empty", ErrRoomName)
	}
	if len(name) > MaxRoomBytes {
		return Room{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrRoomName, len(name), MaxRoomBytes)
	}
	if !utf8.ValidString(name) {
		return Room{}, fmt.Errorf("%w: it is not valid UTF-8", ErrRoomName)
	}
	runes := 0
	for _, r := range name {
		runes++
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) {
			return Room{}, fmt.Errorf("%w: %U is not a letter, a digit or an underscore", ErrRoomName, r)
		}
	}
	if runes > MaxRoomRunes {
		return Room{}, fmt.Errorf("%w: %d characters, at most %d are allowed", ErrRoomName, runes, MaxRoomRunes)
	}
	return Room{name}, nil
}

// MustRoom is ParseRoom for names known to be good; it panics on others.
func MustRoom(name string) Room {
	r, err := ParseRoom(name)
	if err != nil {
		panic(err)
	}
	return r
}

// String returns the name as it was given.
func (r Room) String() string { return r.name }

// IsZero reports whether r is no room at all.
func (r Room) IsZero() bool { return r.name == "" }

// Partition returns the slice the room belongs to, in 0 ... [Partitions]-1:
// FNV-1a 32 of the name modulo 64, which is what the NATS server's own
// subject mapping partition(64,1) computes.
func (r Room) Partition() int {
	h := uint32(2166136261)
	for i := 0; i < len(r.name); i++ {
		h ^= uint32(r.name[i])
		h *= 16777619
	}
	return int(h % Partitions)
}
