// Package wire turns bytes into WebSocket frames and back: the handshake, the
// frames of RFC 6455, permessage-deflate of RFC 7692. It does no I/O and keeps
// no memory of its own: it reads from the buffer it is given and appends to the
// one it is given.
package wire

import (
	"roomcast/proto"
)

// Error is what a peer did wrong and the close frame that tells it so.
type Error struct {
	Close  proto.CloseCode
	Reason string // at most 123 bytes
}

func (e *Error) Error() string { return e.Close.String() + ": " + e.Reason }

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

// Reader splits what a client sends into frames. The zero Reader is ready; it
// holds no pointer and is small, to be kept in a slab.
type Reader struct {
	Deflate bool // permessage-deflate was negotiated
}

// Next returns the next frame in buf and how many bytes of buf, from the front,
// are done with; buf must begin where the last call ended. Frame.Op is 0 if more
// bytes are needed. A message in parts is gathered in buf itself, so bytes that
// are not yet done with are changed as well and must be given again as they
// were left. The frame's payload is valid until buf is reused. An error is
// always an *Error and final.
func (r *Reader) Next(buf []byte, limits *Limits) (f Frame, n int, err error) { panic("not yet") }

// AppendText appends a text frame, as a server sends it.
func AppendText(b, payload []byte) []byte { panic("not yet") }

// AppendBinary appends a binary frame.
func AppendBinary(b, payload []byte) []byte { panic("not yet") }

// AppendHeader appends the header of an unfragmented frame whose payload of n
// bytes the caller appends itself.
func AppendHeader(b []byte, op Op, n int) []byte { panic("not yet") }

// AppendPing appends a ping; payload is at most 125 bytes.
func AppendPing(b, payload []byte) []byte { panic("not yet") }

// AppendPong appends a pong; payload is at most 125 bytes.
func AppendPong(b, payload []byte) []byte { panic("not yet") }

// AppendClose appends a close frame; reason is cut to 123 bytes at a rune's
// edge. Code 0 makes an empty one.
func AppendClose(b []byte, code proto.CloseCode, reason string) []byte { panic("not yet") }

// AppendDeflated appends a compressed message, or an ordinary one where that
// would not be shorter.
func (d *Deflater) AppendDeflated(b []byte, op Op, payload []byte) []byte { panic("not yet") }

// Deflater compresses messages, each by itself, so that one result serves every
// member. It is owned by one goroutine.
type Deflater struct{}

// Inflater expands messages within a limit. It is owned by one goroutine.
type Inflater struct{}

// Inflate returns the frame's payload expanded and, for text, checked. It is
// valid until the next call. Errors are *Error: 1009 above limits.Message.
func (i *Inflater) Inflate(f Frame, limits *Limits) ([]byte, error) { panic("not yet") }
