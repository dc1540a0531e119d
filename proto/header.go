package proto

import (
	"fmt"
	"strings"
)

// Headers of a request to roomsvc on room.<g>. All are optional. A request without headers is a
// line that the user of the NATS connection has typed. [EscapeHeader] writes the values of From,
// Name and Member.
const (
	HeaderKind = "Rc-Kind" // text, data, bin or an act; missing = a typed line
	HeaderFrom = "Rc-From" // the sender's id
	HeaderName = "Rc-Name" // the sender's name
	HeaderKey  = "Rc-Key"  // the sender's key, which members see in the event
	HeaderOnce = "Rc-Once" // a key that a gateway has made for a sender without one; members do not see it
	HeaderType = "Rc-Type" // type of an application event
	HeaderSent = "Rc-Sent" // hash of the sender's content, if a backend has replaced this content; the key's digest is made from the hash
	HeaderEnc  = "Rc-Enc"  // the payload is sealed; the value is the version of the seal

	HeaderRights = "Rc-Rights" // the sender's rights in the room, separated by spaces; missing = all rights
	HeaderMember = "Rc-Member" // of an act: the id of the user whom the act concerns
	HeaderFor    = "Rc-For"    // of an act: how long it lasts
	HeaderEvery  = "Rc-Every"  // of the act slow: a member may say one message in this time
	HeaderSeq    = "Rc-Seq"    // of delete and edit: the seq of the message
	HeaderEpoch  = "Rc-Epoch"  // of delete and edit: the epoch of that seq; missing = the room's present epoch
	HeaderAbsent = "Rc-Absent" // of kick: 1 = a gateway says that the member is not in the room
)

// absentMark is the value of [HeaderAbsent].
const absentMark = "1"

// EscapeHeader returns text in a form for a NATS header. It replaces each byte that is not one of
// A-Za-z0-9_.:@- by %XX, in upper case. For example, "Ann B" becomes "Ann%20B".
func EscapeHeader(text string) string {
	for i := 0; i < len(text); i++ {
		if !plainInHeader(text[i]) {
			return string(AppendEscaped(make([]byte, 0, len(text)+16), text))
		}
	}
	return text
}

// AppendEscaped appends the result of [EscapeHeader].
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

// UnescapeHeader reads the result of [EscapeHeader]. It refuses every other spelling. So each id
// has only one spelling, and two spellings cannot be taken for two ids.
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
