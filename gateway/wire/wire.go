// Package wire reads and makes the bytes of all transports. For WebSocket, these are the
// handshake, the frames of RFC 6455, and permessage-deflate of RFC 7692. For Server-Sent Events,
// the package only makes bytes. It does no I/O and has no buffers of its own: it reads from a
// buffer of the caller and appends to a buffer of the caller.
//
// A further transport in one direction needs only its codec, in a file like events.go, and an
// entry in [Streams]. A further transport in both directions over an upgraded HTTP connection needs
// another [Framing]: its [Frames], a case in [Reader.Next], and its handshake.
//
// # Reading order
//
// reader.go makes messages from bytes. header.go reads the header of a frame. frame.go makes the
// frames to send. codec.go and events.go encode events. stream.go
// lists the transports in one direction. request.go and handshake.go handle the
// beginning of a connection. deflate.go compresses messages.
package wire

import "roomcast/proto"

// Op is the opcode of a frame.
type Op byte

// The opcodes that a Reader returns. The opcode 0 means that there is no frame.
const (
	OpText   Op = 0x1
	OpBinary Op = 0x2
	OpClose  Op = 0x8
	OpPing   Op = 0x9
	OpPong   Op = 0xA
)

// IsData reports whether a frame with this opcode contains a message.
func (op Op) IsData() bool { return op == OpText || op == OpBinary }

// Frame is either a complete message, joined from its fragments, or a control frame.
type Frame struct {
	Op       Op              // 0 = there is no frame yet, because more bytes are needed
	Deflated bool            // Payload is compressed, see [Inflater]
	Close    proto.CloseCode // code in a close frame; 0 = it has no code
	Payload  []byte          // the bytes after unmasking, in the caller's buffer; of a close frame, only the reason
}

// Limits bounds the messages that a Reader accepts. All readers of a loop share one Limits.
type Limits struct {
	Message   int // the most bytes of a message, also after decompression; more bytes close the connection with 1009
	Fragments int // the most fragments of a message; more fragments close the connection with 1008
}

// Error is an error that the peer has made. It contains what the close frame must say about it.
type Error struct {
	Close  proto.CloseCode
	Reason string // up to 123 bytes
}

func (e *Error) Error() string { return e.Close.String() + ": " + e.Reason }

func protocolError(reason string) *Error { return &Error{proto.CloseProtocol, reason} }
