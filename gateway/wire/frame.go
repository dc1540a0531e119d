package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"roomcast/proto"
)

const (
	maxControl = 125            // length of the longest payload of a control frame, in bytes
	maxReason  = maxControl - 2 // length of the longest reason in a close frame, in bytes
)

// AppendHeader appends the header of a frame that is a whole message. The caller must then
// append the n bytes of its payload.
func AppendHeader(b []byte, op Op, n int) []byte { return appendHeader(b, byte(op), n) }

func appendHeader(b []byte, bits byte, n int) []byte {
	const fin = 0x80
	b = append(b, fin|bits)
	switch {
	case n < 126:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
}

// AppendFrame appends a frame in the form that a server sends. The payload of a ping or pong must
// not be longer than 125 bytes.
func AppendFrame(b []byte, op Op, payload []byte) []byte {
	return append(AppendHeader(b, op, len(payload)), payload...)
}

// AppendClose appends a close frame. It cuts a reason after at most 123 bytes, between two
// characters. If the code is 0, the frame is empty.
func AppendClose(b []byte, code proto.CloseCode, reason string) []byte {
	if code == 0 {
		return AppendHeader(b, OpClose, 0)
	}
	if len(reason) > maxReason {
		n := maxReason
		for !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	b = AppendHeader(b, OpClose, 2+len(reason))
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return append(b, reason...)
}
