//go:build linux

package main

import "encoding/binary"

// The opcodes that a server sends.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// nextFrame returns the first frame of b. Frames of servers are neither masked nor
// fragmented. used is 0 while the frame is incomplete.
func nextFrame(b []byte) (op byte, payload []byte, used int) {
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
	if len(b) < head+size {
		return 0, nil, 0
	}
	return b[0] & 15, b[head : head+size], head + size
}

// appendHead appends the head of an unmasked frame.
func appendHead(b []byte, op byte, size int) []byte {
	b = append(b, 0x80|op)
	switch {
	case size < 126:
		return append(b, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(size))
}

var mask = [4]byte{0x37, 0xfa, 0x21, 0x3d} // the example of RFC 6455

// appendMasked appends a complete frame of a client.
func appendMasked(b []byte, op byte, payload []byte) []byte {
	at := len(b)
	b = appendHead(b, op, len(payload))
	b[at+1] |= 0x80
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}
