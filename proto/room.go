package proto

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits for a room name. The limit in bytes keeps all subjects far shorter than 4096 bytes,
// which is the longest control line of NATS. The server closes a connection that sends a longer
// line.
const (
	MaxRoomRunes = 64
	MaxRoomBytes = 200
)

// Partitions is the number of partitions. It can never change, because subjects on disk depend
// on it. roomsvc compares it with the stream's metadata.
const Partitions = 256

// Every error of [ParseRoom] wraps ErrRoomName.
var ErrRoomName = errors.New("bad room name")

// Room is a valid room name. Only [ParseRoom] makes a Room, and every subject is built from a
// Room. So a name cannot reach NATS as a wildcard, as two tokens, or in a control line that is
// too long. Names are compared byte by byte, without any normalisation. The zero Room means that
// there is no room.
type Room struct{ name string }

// ParseRoom checks a room name. A name may contain letters, digits and combining marks of any
// script, the characters _ - : @ + ~ = and single dots between parts. It contains no invisible
// characters (Default_Ignorable_Code_Point of Unicode), and does not begin with a combining
// mark. It has 1 to [MaxRoomRunes] code points, in at most [MaxRoomBytes] bytes of valid UTF-8.
// Errors wrap [ErrRoomName] and say what is wrong. They never contain the name, because the name
// may be hostile.
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
	runes, before := 0, '.'
	for _, r := range name {
		runes++
		switch {
		case r == '.':
			if before == '.' {
				return Room{}, errDots
			}
		case runes == 1 && unicode.IsMark(r):
			return Room{}, fmt.Errorf("%w: it begins with the combining mark %U", ErrRoomName, r)
		case !inRoomName(r):
			return Room{}, fmt.Errorf("%w: %U is not a letter, a digit, a combining mark, a dot or one of _-:@+~=", ErrRoomName, r)
		}
		before = r
	}
	if before == '.' {
		return Room{}, errDots
	}
	if runes > MaxRoomRunes {
		return Room{}, fmt.Errorf("%w: %d characters, at most %d are allowed", ErrRoomName, runes, MaxRoomRunes)
	}
	return Room{name}, nil
}

var errDots = fmt.Errorf("%w: a dot may be only between two parts", ErrRoomName)

// inRoomName reports whether a room name may contain r. The rule for dots is elsewhere, in
// [ParseRoom].
func inRoomName(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
			strings.ContainsRune("_-:@+~=", r)
	}
	if !unicode.In(r, unicode.L, unicode.M, unicode.N) {
		return false
	}
	// Default_Ignorable_Code_Point also includes format characters (Cf). The check above has refused
	// them already.
	return !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// MustRoom is ParseRoom for constant names. It panics if the name is not valid.
func MustRoom(name string) Room {
	r, err := ParseRoom(name)
	if err != nil {
		panic(err)
	}
	return r
}

// String returns the name.
func (r Room) String() string { return r.name }

// UnmarshalText reads a name with [ParseRoom].
func (r *Room) UnmarshalText(name []byte) (err error) {
	*r, err = ParseRoom(string(name))
	return err
}

// IsZero reports whether r is the zero Room.
func (r Room) IsZero() bool { return r.name == "" }

// escapedDot replaces each dot of a room's name in a subject, so that the name is a single token.
// No name contains a percent sign, so a percent sign in a token is always the beginning of an
// escape.
const escapedDot = "%2E"

// Token returns the name as one token of a NATS subject: each dot is written %2E.
func (r Room) Token() string { return strings.ReplaceAll(r.name, ".", escapedDot) }

// RoomOfToken returns the room whose [Room.Token] is token.
func RoomOfToken(token string) (Room, error) {
	if strings.Contains(token, ".") {
		return Room{}, errSubject
	}
	return ParseRoom(strings.ReplaceAll(token, escapedDot, "."))
}

// Partition returns the room's partition, from 0 to [Partitions]-1. It is the 32-bit FNV-1a hash of
// the token, modulo [Partitions]. The subject mapping partition(256,1) of the NATS server computes
// the same number.
func (r Room) Partition() int {
	h := uint32(2166136261)
	for i := 0; i < len(r.name); i++ {
		if c := r.name[i]; c != '.' {
			h = (h ^ uint32(c)) * 16777619
			continue
		}
		for j := range len(escapedDot) {
			h = (h ^ uint32(escapedDot[j])) * 16777619
		}
	}
	return int(h % Partitions)
}
