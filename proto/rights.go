package proto

import (
	"fmt"
	"strings"
)

// Rights is a set of rights in one room.
type Rights uint8

// The rights as bits. A set with MayModerate always contains MayRead too.
const (
	MayRead Rights = 1 << iota
	MaySay
	MayModerate

	AllRights = MayRead | MaySay | MayModerate
)

// Allow reports whether the set contains the right. The right "" stands for no right, so every
// set contains it.
func (r Rights) Allow(right Right) bool {
	switch right {
	case "":
		return true
	case RightRead:
		return r&MayRead != 0
	case RightSay:
		return r&MaySay != 0
	case RightModerate:
		return r&MayModerate != 0
	}
	return false
}

// ParseRights reads rights that are separated by spaces. An empty text is the empty set.
func ParseRights(text string) (Rights, error) {
	var set Rights
	for word := range strings.FieldsSeq(text) {
		switch Right(word) {
		case RightRead:
			set |= MayRead
		case RightSay:
			set |= MaySay
		case RightModerate:
			set |= MayModerate | MayRead
		default:
			return 0, fmt.Errorf("unknown right %.40q; the rights are read, say and moderate", word)
		}
	}
	return set, nil
}

// noRights is the value of [HeaderRights] for a sender without rights.
const noRights = "none"

// rightsHeaders contains the value of [HeaderRights] for each set of rights. All requests share
// these slices.
var rightsHeaders = func() (all [AllRights + 1][]string) {
	for set := range all {
		var words []string
		for _, right := range []Right{RightRead, RightSay, RightModerate} {
			if Rights(set).Allow(right) {
				words = append(words, string(right))
			}
		}
		if len(words) == 0 {
			words = []string{noRights}
		}
		all[set] = []string{strings.Join(words, " ")}
	}
	return all
}()

// String returns the rights separated by spaces, or "none" if the set is empty.
func (r Rights) String() string { return rightsHeaders[r][0] }

// UnmarshalText reads a text that String has returned.
func (r *Rights) UnmarshalText(text []byte) (err error) {
	if *r = 0; string(text) != noRights {
		*r, err = ParseRights(string(text))
	}
	return err
}

func parseRightsHeader(value string) (Rights, *Refusal) {
	if value == noRights {
		return 0, nil
	}
	rights, err := ParseRights(value)
	if err != nil {
		return 0, Refuse(BadRequest, "header %s: %v", HeaderRights, err)
	}
	return rights, nil
}
