// Package wire knows the bytes of both transports. It turns bytes into WebSocket
// frames and back: the handshake, the frames of RFC 6455, permessage-deflate of
// RFC 7692. It also makes Server-Sent Events. It does no I/O and owns no buffer: it
// reads in place from the caller's buffer and appends to the caller's buffer.
//
// # Reading order
//
// reader.go: from bytes to messages. header.go: the header of a frame. frame.go:
// frames to be sent. codec.go and events.go: from events to bytes. request.go and
// handshake.go: how a connection begins. deflate.go: compression.
package wire

import "roomcast/proto"

// Op is the opcode of a frame.
type Op byte

// The opcodes a Reader returns; 0 stands for no frame.
const (
	OpText   Op = 0x1
	OpBinary Op = 0x2
	OpClose  Op = 0x8
	OpPing   Op = 0x9
	OpPong   Op = 0xA
)

// IsData reports whether a frame with this opcode carries a message.
func (op Op) IsData() bool { return op == OpText || op == OpBinary }

// Frame is a whole message, put together from its fragments, or a control frame.
type Frame struct {
	Op       Op              // 0: no frame yet, more bytes are needed
	Deflated bool            // Payload is compressed, see [Inflater]
	Close    proto.CloseCode // of a close frame; 0 if it carried none
	Payload  []byte          // unmasked, in the reader's buffer; a close frame's reason
}

// Limits bounds what a Reader takes. It is shared by all readers of a loop.
type Limits struct {
	Message   int // bytes of a message, also after inflating; 1009 above
	Fragments int // of one message; 1008 above
}

// Error is a fault of the peer, with the close frame that reports it.
type Error struct {
	Close  proto.CloseCode
	Reason string // at most 123 bytes
}

func (e *Error) Error() string { return e.Close.String() + ": " + e.Reason }

func protocolError(reason string) *Error { return &Error{proto.CloseProtocol, reason} }
