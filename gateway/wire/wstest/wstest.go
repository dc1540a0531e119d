// Package wstest writes and reads the bytes of WebSocket clients, for tests and load generators.
// It shares no code with package wire, because it checks that package.
package wstest

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The opcodes.
const (
	Continue = 0x0
	Text     = 0x1
	Binary   = 0x2
	Close    = 0x8
	Ping     = 0x9
	Pong     = 0xA
)

// The bits in a frame's first byte that do not belong to the opcode.
const (
	Fin  = 0x80
	Rsv1 = 0x40
	Rsv2 = 0x20
	Rsv3 = 0x10
)

// Mask is the masking key of the examples in RFC 6455, section 5.7.
var Mask = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// Request returns a handshake. The parameter more contains further headers, each with its line
// end.
func Request(path, host, more string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + more + "\r\n"
}

// Length returns the length field of a frame, in its shortest form and without the mask bit.
func Length(n int) []byte {
	switch {
	case n < 126:
		return []byte{byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{126}, uint16(n))
	}
	return binary.BigEndian.AppendUint64([]byte{127}, uint64(n))
}

// AppendMasked appends a frame in the form that a client sends. Its first byte is first.
func AppendMasked(b []byte, first byte, payload []byte) []byte {
	at := len(b)
	b = AppendHeader(b, first, len(payload))
	b[at+1] |= 0x80
	b = append(b, Mask[:]...)
	for i, c := range payload {
		b = append(b, c^Mask[i&3])
	}
	return b
}

// AppendHeader appends the header of a frame in the form that a server sends. The caller appends
// the payload.
func AppendHeader(b []byte, first byte, size int) []byte {
	return append(append(b, first), Length(size)...)
}

// Next returns the first frame in b, and the length of the whole frame in used. The bytes come
// from a server. If b does not contain the whole frame yet, used is 0.
func Next(b []byte) (op byte, payload []byte, used int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	size, head := int(b[1]), 2
	switch size {
	case 126:
		if len(b) < 4 {
			return 0, nil, 0
		}
		size, head = int(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		if len(b) < 10 {
			return 0, nil, 0
		}
		size, head = int(binary.BigEndian.Uint64(b[2:])), 10
	}
	if size < 0 || len(b)-head < size {
		return 0, nil, 0
	}
	return b[0] & 15, b[head : head+size], head + size
}

// maxRead is the length of the longest payload that Read accepts, in bytes.
const maxRead = 64 << 20

// Read reads a frame that a server has sent. It returns the frame's first byte and its payload.
func Read(r io.Reader) (first byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return 0, nil, err
	}
	size := uint64(head[1])
	switch size {
	case 126:
		_, err = io.ReadFull(r, head[2:4])
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, err = io.ReadFull(r, head[2:10])
		size = binary.BigEndian.Uint64(head[2:])
	}
	if err != nil {
		return head[0], nil, err
	}
	if head[1]&0x80 != 0 || size > maxRead {
		return head[0], nil, fmt.Errorf("read frame: the header % x is masked, or its length is above the limit", head[:2])
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(r, payload)
	return head[0], payload, err
}
