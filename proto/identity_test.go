package proto

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckID(t *testing.T) {
	for _, id := range []string{"", "a b", "a\r\nX: y", "é", string(make([]byte, 65))} {
		if CheckID(id) == nil {
			t.Errorf("took the id %q", id)
		}
	}
}

// A name is refused for control characters, for bidirectional controls, and if nothing of
// it can be seen; for nothing else.
func TestCheckName(t *testing.T) {
	for _, name := range []string{
		"a\nb", "\x1b[31m", "a\x00", "a\x7f", "a\u0085b", "a\u009fb", "\xff", "\xed\xa0\x80", strings.Repeat("a", 129),
		"a\u202eb", "a\u202ab", "a\u2066b", "a\u2069b", "a\u200eb", "a\u200fb", "a\u061cb",
		" ", "\u00a0", "\u3000", "\u2028", "\u3164", "\u115f", "\u1160", "\uffa0", "\u200b", "\u200d", "\u00ad", "\ufeff", "\ufe0f",
		"\U000e0061", "\U000e0fff", "\u2065", "\U0001d173", " \u3164\u200b ",
	} {
		if CheckName(name) == nil {
			t.Errorf("took the name %q", name)
		}
	}
	for _, name := range []string{
		"", "安娜", "Ana María", "👩‍💻", "<b>x</b>", "a\u00a0b", "a\u3000b", "\u3164a", "न\u200dक",
		"Ann \U0001fae9", "\U0002ebf0明", // of Unicode 16 and 15.1
		"\u0378",                                                       // not assigned yet
		"\ufffd", "\ue000", "\U0001f3f4\U000e0067\U000e0062\U000e007f", // a flag of tag characters
		"\u0600", "\ufff9", "\U00013430", "Z\u0338\u0322\u031b",
	} {
		if r := CheckName(name); r != nil {
			t.Errorf("refused the name %q: %v", name, r)
		}
	}
}

// Unicode counts 4174 code points that are not shown, unassigned ones that are kept for
// this purpose included.
func TestIgnorableIsDefaultIgnorable(t *testing.T) {
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
