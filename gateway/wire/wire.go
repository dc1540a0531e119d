// Package wire reads and makes the bytes of both transports. For WebSocket, these are
// the handshake, the frames of RFC 6455, and permessage-deflate of RFC 7692. The package
// also makes Server-Sent Events. It does no I/O and owns no buffer: it reads in place
// from the caller's buffer and appends to the caller's buffer.
//
// # Reading order
//
// reader.go: from bytes to messages. header.go: the header of a frame. frame.go:
// frames to send. codec.go and events.go: from events to bytes. request.go and
// handshake.go: how a connection begins. deflate.go: compression.
package wire

import "roomcast/proto"

// Op is the opcode of a frame.
type Op byte

// The opcodes that a Reader returns. 0 means that there is no frame.
const (
	OpText   Op = 0x1
	OpBinary Op = 0x2
	OpClose  Op = 0x8
	OpPing   Op = 0x9
	OpPong   Op = 0xA
)

// IsData reports whether a frame with this opcode carries a message.
func (op Op) IsData() bool { return op == OpText || op == OpBinary }

// Frame is a complete message, joined from its fragments, or a control frame.
type Frame struct {
	Op       Op              // 0: no frame yet, more bytes are needed
	Deflated bool            // Payload is compressed, see [Inflater]
	Close    proto.CloseCode // the code of a close frame; 0 if it has none
	Payload  []byte          // unmasked, in the reader's buffer; in a close frame, the reason
}

// Limits bounds the messages that a Reader accepts. All readers of a loop share it.
type Limits struct {
	Message   int // most bytes of a message, also after inflating; more close with 1009
	Fragments int // most fragments of a message; more close with 1008
}

// Error is an error of the peer, with the contents of the close frame that reports it.
type Error struct {
	Close  proto.CloseCode
	Reason string // at most 123 bytes
}

func (e *Error) Error() string { return e.Close.String() + ": " + e.Reason }

func protocolError(reason string) *Error { return &Error{proto.CloseProtocol, reason} }
