package proto

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckIDAcceptsPrintableIDs(t *testing.T) {
	for _, id := range []string{
		"", " a", "a ", "\u00a0a", "a\u3000", "a\r\nX: y", "a\x00", "a\x7f", "a\u0085", "\xff", "a\u200bb", "a\u202eb", "a\ufeff",
		"a\u2028b", "a\u2029b", "a\u00adb", strings.Repeat("a", 129),
	} {
		if CheckID(id) == nil {
			t.Errorf("CheckID accepts %q", id)
		}
	}
	for _, id := range []string{
		"auth0|5f7c", "google-oauth2|1035", "ann+x@example.org", "https://id.example.org/u/7", "42", "安娜", "a b", "{id}", "*", "a*b",
		"Ann \U0001fae9", strings.Repeat("a", 128),
	} {
		if r := CheckID(id); r != nil {
			t.Errorf("CheckID refuses %q: %v", id, r)
		}
		if back, err := UnescapeHeader(EscapeHeader(id)); err != nil || back != id {
			t.Errorf("%q: the header reads %q, %v", id, back, err)
		}
	}
}

func TestEmptyNamesAreNotTooLarge(t *testing.T) {
	for what, check := range map[string]func(string) *Refusal{"id": CheckID, "key": CheckKey, "type": CheckType} {
		if r := check(""); r == nil || r.Code != BadRequest || !strings.Contains(r.Message, "empty") {
			t.Errorf("an empty %s: got %v, want bad_request", what, r)
		}
		if r := check(strings.Repeat("a", 129)); r == nil || r.Code != TooLarge {
			t.Errorf("a long %s: got %v, want too_large", what, r)
		}
	}
}

func TestEscapedIDsDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"a", "a=", "a=3D", "a*", "a=2A", "a|", "a b", "a=20b", "A", "€", "=E2=82=AC", "安", "a.b", "\ufffd"} {
		escaped := EscapeID(id)
		if other, ok := seen[escaped]; ok {
			t.Errorf("%q and %q are both written %q", id, other, escaped)
		}
		seen[escaped] = id
		if _, err := ParseRoom(escaped); err != nil {
			t.Errorf("%q is written %q, which is no room name: %v", id, escaped, err)
		}
	}
}

// CheckName must refuse control characters, bidirectional controls and names without a visible
// character. It must accept all other names.
func TestCheckNameRefusesInvisibleNames(t *testing.T) {
	for _, name := range []string{
		"a\nb", "\x1b[31m", "a\x00", "a\x7f", "a\u0085b", "a\u009fb", "\xff", "\xed\xa0\x80", strings.Repeat("a", 129),
		"a\u202eb", "a\u202ab", "a\u2066b", "a\u2069b", "a\u200eb", "a\u200fb", "a\u061cb",
		" ", "\u00a0", "\u3000", "\u2028", "\u3164", "\u115f", "\u1160", "\uffa0", "\u200b", "\u200d", "\u00ad", "\ufeff", "\ufe0f",
		"\U000e0061", "\U000e0fff", "\u2065", "\U0001d173", " \u3164\u200b ",
	} {
		if CheckName(name) == nil {
			t.Errorf("CheckName accepts %q", name)
		}
	}
	for _, name := range []string{
		"", "安娜", "Ana María", "👩‍💻", "<b>x</b>", "a\u00a0b", "a\u3000b", "\u3164a", "न\u200dक",
		"Ann \U0001fae9", "\U0002ebf0明", // characters that are new in Unicode 16 and 15.1
		"\u0378",                                                       // Unicode has not assigned this code point
		"\ufffd", "\ue000", "\U0001f3f4\U000e0067\U000e0062\U000e007f", // the last one is a flag made of tag characters
		"\u0600", "\ufff9", "\U00013430", "Z\u0338\u0322\u031b",
	} {
		if r := CheckName(name); r != nil {
			t.Errorf("CheckName refuses %q: %v", name, r)
		}
	}
}

// Unicode has 4174 code points with this property, including reserved code points.
func TestIgnorableMatchesDefaultIgnorableCodePoint(t *testing.T) {
	n := 0
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if ignorable(r) {
			n++
		}
	}
	if n != 4174 {
		t.Errorf("got %d ignorable code points, want 4174", n)
	}
}
