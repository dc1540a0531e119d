package proto

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits for the names that a sender chooses, in bytes.
const (
	MaxIDBytes   = 128 // for Identity.ID
	MaxNameBytes = 128 // for Identity.Name
	MaxKeyBytes  = 128 // for a message's key
	MaxTypeBytes = 64  // for the type of an application event
)

// Identity describes a sender. Keys, acts and presence refer to the sender by its id. Members
// see the name.
type Identity struct {
	ID   string `json:"id"`             // unique, see [CheckID]; from a token or a backend, or made by a gateway
	Name string `json:"name,omitempty"` // display name, see [CheckName]; "" = none
}

// CheckID refuses an id that is empty, too long or not valid UTF-8. It also refuses control
// characters, format characters, line separators, and a space at the beginning or the end. Ids
// are compared byte by byte, without any normalisation.
func CheckID(id string) *Refusal {
	if refusal := checkLength("id", id, MaxIDBytes); refusal != nil {
		return refusal
	}
	if !utf8.ValidString(id) {
		return Refuse(BadRequest, "the id is not valid UTF-8")
	}
	for _, r := range id {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return Refuse(BadRequest, "the id contains %U, which cannot be printed", r)
		}
	}
	if first, _ := utf8.DecodeRuneInString(id); unicode.IsSpace(first) {
		return Refuse(BadRequest, "the id begins with a space")
	}
	if last, _ := utf8.DecodeLastRuneInString(id); unicode.IsSpace(last) {
		return Refuse(BadRequest, "the id ends with a space")
	}
	return nil
}

// ReservedID reports whether only Roomcast itself may assign the id. Such ids are for guests,
// for clients of the HTTP API and of NATS, and for groups of members.
func ReservedID(id string) bool {
	return id == "api" || id == "nats" ||
		strings.HasPrefix(id, "anon-") || strings.HasPrefix(id, "api:") || strings.HasPrefix(id, "*")
}

// EscapeID returns an id in a form that the name of a room may contain. It replaces each byte of =
// and *, and of each character that a room name must not contain, by =XX in upper case. For
// example, auth0|5f becomes auth0=7C5f.
func EscapeID(id string) string {
	const digits = "0123456789ABCDEF"
	plain := func(r rune) bool { return r == '.' || r != '=' && inRoomName(r) }
	if !strings.ContainsFunc(id, func(r rune) bool { return !plain(r) }) {
		return id
	}
	b := make([]byte, 0, len(id)+16)
	for _, r := range id {
		from := len(b)
		b = utf8.AppendRune(b, r)
		if plain(r) {
			continue
		}
		bytes := string(b[from:])
		b = b[:from]
		for i := 0; i < len(bytes); i++ {
			b = append(b, '=', digits[bytes[i]>>4], digits[bytes[i]&15])
		}
	}
	return string(b)
}

// CheckKey accepts a key of 1 to 128 printable ASCII characters without spaces, and refuses any
// other. A valid key needs no escapes in a NATS header.
func CheckKey(key string) *Refusal {
	if refusal := checkLength("key", key, MaxKeyBytes); refusal != nil {
		return refusal
	}
	for i := 0; i < len(key); i++ {
		if key[i] <= ' ' || key[i] > '~' {
			return Refuse(BadRequest, "a key is printable ASCII without spaces")
		}
	}
	return nil
}

// CheckType accepts the type of an application event if it consists of 1 to 64 characters that
// [EscapeHeader] does not change. It refuses any other type.
func CheckType(t string) *Refusal { return checkToken("type", t, MaxTypeBytes) }

func checkToken(what, s string, limit int) *Refusal {
	if refusal := checkLength(what, s, limit); refusal != nil {
		return refusal
	}
	for i := 0; i < len(s); i++ {
		if !plainInHeader(s[i]) {
			return Refuse(BadRequest, "the %s may contain only ASCII letters, digits and _ . : @ -", what)
		}
	}
	return nil
}

// checkLength refuses a string that is empty or has more than limit bytes.
func checkLength(what, s string, limit int) *Refusal {
	if s == "" {
		return Refuse(BadRequest, "the %s is missing or empty; it has 1 to %d bytes", what, limit)
	}
	if len(s) > limit {
		return Refuse(TooLarge, "the %s has at most %d bytes, this one has %d", what, limit, len(s))
	}
	return nil
}

// CheckName refuses a display name that is too long, is not valid UTF-8, contains a control
// character or a bidirectional control, or has no visible character. It accepts characters that
// are newer than Go's Unicode tables.
func CheckName(name string) *Refusal {
	if len(name) > MaxNameBytes {
		return Refuse(TooLarge, "the name is %d bytes long, at most %d are allowed", len(name), MaxNameBytes)
	}
	if !utf8.ValidString(name) { // this includes surrogates
		return Refuse(BadRequest, "the name is not valid UTF-8")
	}
	visible := name == ""
	for _, r := range name {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return Refuse(BadRequest, "the name contains the control character %U", r)
		}
		visible = visible || !unicode.IsSpace(r) && !ignorable(r)
	}
	if !visible {
		return Refuse(BadRequest, "the name has no visible character")
	}
	return nil
}

// ignorable reports whether r has the Unicode property Default_Ignorable_Code_Point. Such a
// character is invisible in every font. The conditions follow DerivedCoreProperties.txt.
func ignorable(r rune) bool {
	switch {
	case r < 0xAD:
		return false
	case r >= 0xFFF9 && r <= 0xFFFB, r >= 0x13430 && r <= 0x13440: // visible, although their category is Cf
		return false
	}
	return unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) &&
		!unicode.In(r, unicode.White_Space, unicode.Prepended_Concatenation_Mark)
}

// AppendJSON appends {"id":…,"name":…}. It omits an empty name.
func (w Identity) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), w.ID)
	if w.Name != "" {
		b = appendString(append(b, `,"name":`...), w.Name)
	}
	return append(b, '}')
}
