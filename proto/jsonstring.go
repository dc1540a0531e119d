package proto

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string. It allocates memory for the result, but never more than the length of the
// input.
func (r *jsonReader) str() (string, error) {
	raw, plain, err := r.rawString()
	if err != nil {
		return "", err
	}
	if plain {
		return string(raw), nil
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			i++
			continue
		}
		switch c := raw[i+1]; c {
		case 'u':
			u := hex4(raw[i+2:])
			i += 6
			if utf16.IsSurrogate(u) {
				low := rune(-1)
				if i+6 <= len(raw) && raw[i] == '\\' && raw[i+1] == 'u' {
					low = hex4(raw[i+2:])
				}
				if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
					return "", r.fail("half a surrogate pair in a string ending")
				}
				i += 6
			}
			out = utf8.AppendRune(out, u)
		default:
			out = append(out, unescaped[c])
			i += 2
		}
	}
	return string(out), nil
}

// unescaped maps the second byte of a two-byte escape to a character. For example, it maps n to a
// line feed. 0 means that there is no such escape.
var unescaped = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// rawString checks a string and returns the bytes between its quotes. The result plain reports
// whether they contain no escapes.
func (r *jsonReader) rawString() (raw []byte, plain bool, err error) {
	if err := r.begin('"', "a string"); err != nil {
		return nil, false, err
	}
	start := r.i
	plain = true
	for r.i < len(r.b) {
		c := r.b[r.i]
		switch {
		case c == '"':
			raw = r.b[start:r.i]
			r.i++
			return raw, plain, nil
		case c == '\\':
			plain = false
			if r.i+1 == len(r.b) {
				return nil, false, r.fail("the string does not end")
			}
			e := r.b[r.i+1]
			switch {
			case unescaped[e] != 0:
				r.i += 2
			case e == 'u' && r.i+6 <= len(r.b) && hex4(r.b[r.i+2:]) >= 0:
				r.i += 6
			default:
				return nil, false, r.fail("bad escape in a string")
			}
		case c < ' ':
			return nil, false, r.fail("control character in a string")
		case c < utf8.RuneSelf:
			r.i++
		default:
			u, n := utf8.DecodeRune(r.b[r.i:])
			if u == utf8.RuneError && n <= 1 {
				return nil, false, r.fail("invalid UTF-8 in a string")
			}
			r.i += n
		}
	}
	return nil, false, r.fail("the string does not end")
}

// hex4 decodes four hexadecimal digits, or returns -1.
func hex4(b []byte) rune {
	var u rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		u = u<<4 | rune(c)
	}
	return u
}

// appendString appends s as a JSON string. The callers have checked that s is valid UTF-8. If it
// is not, appendString writes U+FFFD for each invalid byte.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			u, n := utf8.DecodeRuneInString(s[i:])
			// Old versions of JavaScript treat U+2028 and U+2029 as ends of lines, so escape
			// them.
			if (u != utf8.RuneError || n > 1) && u != '\u2028' && u != '\u2029' {
				i += n
				continue
			}
			b = append(b, s[from:i]...)
			b = fmt.Appendf(b, `\u%04x`, u)
			i += n
			from = i
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
		i++
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// clip quotes s for an error message. It cuts s after 40 bytes.
func clip(s string) string {
	if len(s) > 40 {
		n := 40
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		return strconv.Quote(s[:n]) + "…"
	}
	return strconv.Quote(s)
}
