package proto

import (
	"fmt"
	"strings"
)

// Header names of a command on its way to roomsvc on room.<g>. All are optional: a
// payload without headers is a text message from the client that holds the NATS
// connection. Values of From and Name are written by [EscapeHeader].
const (
	HeaderKind = "Rc-Kind" // text, data, bin, or an act
	HeaderFrom = "Rc-From" // the sender's id
	HeaderName = "Rc-Name" // the sender's name
	HeaderKey  = "Rc-Key"  // the sender's key for this command; members see it in the event
	HeaderOnce = "Rc-Once" // the same, made by a gateway for a sender that gave no key; members do not see it
	HeaderType = "Rc-Type" // of an application event
	HeaderEnc  = "Rc-Enc"  // the payload is sealed; the value is the version of the envelope
)

// EscapeHeader returns text as it stands in a NATS header: every byte outside of
// A-Za-z0-9_.:@- is written %XX in upper case.
func EscapeHeader(text string) string {
	for i := 0; i < len(text); i++ {
		if !plainInHeader(text[i]) {
			return string(AppendEscaped(make([]byte, 0, len(text)+16), text))
		}
	}
	return text
}

// AppendEscaped appends what [EscapeHeader] returns.
func AppendEscaped(b []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(text); i++ {
		if c := text[i]; plainInHeader(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// UnescapeHeader reads what [EscapeHeader] wrote, and refuses every other spelling, so
// that one id has one spelling.
func UnescapeHeader(value string) (string, error) {
	if strings.IndexByte(value, '%') < 0 {
		for i := 0; i < len(value); i++ {
			if !plainInHeader(value[i]) {
				return "", errSpelling(value)
			}
		}
		return value, nil
	}
	b := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		c := value[i]
		if plainInHeader(c) {
			b = append(b, c)
			continue
		}
		if c != '%' || i+2 >= len(value) {
			return "", errSpelling(value)
		}
		high, low := upperHex(value[i+1]), upperHex(value[i+2])
		if high < 0 || low < 0 || plainInHeader(byte(high<<4|low)) {
			return "", errSpelling(value)
		}
		b = append(b, byte(high<<4|low))
		i += 2
	}
	return string(b), nil
}

func errSpelling(value string) error {
	return fmt.Errorf("%s is not spelled as a header value: write every byte outside of A-Za-z0-9_.:@- as %%XX in upper case", clip(value))
}

func upperHex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func plainInHeader(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '_' || c == '.' || c == ':' || c == '@' || c == '-'
}
