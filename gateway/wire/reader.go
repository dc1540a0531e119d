package wire

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"roomcast/proto"
)

// Reader splits what a client sends into frames. The zero Reader is ready. It
// holds no pointer and is small, to be kept in a slab.
//
// A message that arrives in parts is gathered at the front of the buffer it arrived in.
// Behind it is a hole where headers and control frames have been:
//
//	| have: unmasked, checked | hole | at: not looked at yet ... |
type Reader struct {
	Deflate bool // permessage-deflate was negotiated

	// Of the message being gathered.
	op       Op   // 0: none, and all below is zero
	deflated bool // the message is compressed
	fin      bool // the present frame is the last
	mask     [4]byte
	left     uint32 // bytes of the present frame still to come
	parts    uint32 // frames so far
	have     uint32 // bytes gathered
	valid    uint32 // of them, known to be UTF-8
	at       uint32 // where the bytes not looked at begin
}

// Next returns the next frame in buf and how many bytes of buf, from the front,
// are used; buf must begin where the last call ended. Frame.Op is 0 if more bytes
// are needed. A message in parts is gathered in buf itself, so Next also changes
// unused bytes, and the next call needs them as they were left. At most twice
// limits.Message and a frame are ever left.
//
// The frame's payload is valid until buf is reused or Next called again. An
// error is always an *Error and final; it comes as soon as the bytes at hand
// prove it, without waiting for the end of a frame.
func (r *Reader) Next(buf []byte, limits *Limits) (f Frame, n int, err error) {
	if r.op != 0 {
		return r.gather(buf, limits)
	}
	if err := r.checkFirst(buf); err != nil {
		return f, 0, err
	}
	h, size, err := parseHeader(buf)
	if err != nil || size == 0 {
		return f, 0, err
	}
	if h.OpCode.IsControl() {
		return control(h, buf, size)
	}
	if err := r.begin(h, limits); err != nil {
		return f, 0, err
	}
	if end := int64(size) + h.Length; h.Fin && end <= int64(len(buf)) { // the usual case
		f = Frame{Op: r.op, Deflated: r.deflated, Payload: buf[size:end:end]}
		*r = Reader{Deflate: r.Deflate}
		ws.Cipher(f.Payload, h.Mask, 0)
		if f.Op == OpText && !f.Deflated && !utf8.Valid(f.Payload) {
			return Frame{}, 0, errUTF8
		}
		return f, int(end), nil
	}
	f, n, err = r.gather(buf[size:], limits)
	return f, size + n, err
}

// Partial reports whether the first frame of a message has begun and its last has not ended.
func (r *Reader) Partial() bool { return r.op != 0 }

var errUTF8 = &Error{proto.CloseInvalidData, "a text message is not UTF-8"}

// begin takes the header of a message's first frame.
func (r *Reader) begin(h ws.Header, limits *Limits) error {
	r.op = Op(h.OpCode)
	r.deflated = h.Rsv1()
	return r.part(h, limits)
}

// part takes the header of a frame of the message being gathered.
func (r *Reader) part(h ws.Header, limits *Limits) error {
	limit := int64(limits.Message)
	if r.deflated {
		limit += limit/64 + 64 // deflate may add this to bytes that cannot be compressed
	}
	if h.Length > limit-int64(r.have) {
		return &Error{proto.CloseTooBig, "the message is too long"}
	}
	if r.parts++; int64(r.parts) > int64(limits.Fragments) {
		return &Error{proto.ClosePolicy, "the message has too many fragments"}
	}
	r.fin, r.left, r.mask = h.Fin, uint32(h.Length), h.Mask
	return nil
}

// gather continues a message in parts until it is whole, a control frame comes, or
// buf ends.
func (r *Reader) gather(buf []byte, limits *Limits) (Frame, int, error) {
	for {
		if err := r.move(buf); err != nil {
			return Frame{}, 0, err
		}
		if r.left == 0 && r.fin {
			return r.finish(buf)
		}
		if r.left > 0 {
			return Frame{}, r.closeHole(buf), nil
		}
		rest := buf[r.at:]
		if err := r.checkFirst(rest); err != nil {
			return Frame{}, 0, err
		}
		h, size, err := parseHeader(rest)
		if err != nil {
			return Frame{}, 0, err
		}
		if size == 0 {
			return Frame{}, r.closeHole(buf), nil
		}
		if h.OpCode.IsControl() {
			f, n, err := control(h, rest, size)
			if r.at += uint32(n); err != nil || n > 0 {
				return f, 0, err
			}
			return f, r.closeHole(buf), nil
		}
		r.at += uint32(size)
		if err := r.part(h, limits); err != nil {
			return Frame{}, 0, err
		}
	}
}

// move unmasks the bytes of the present frame, and puts them behind the gathered ones.
func (r *Reader) move(buf []byte) error {
	part := buf[r.at:]
	part = part[:min(len(part), int(r.left))]
	ws.Cipher(part, r.mask, 0)
	r.mask = rotate(r.mask, len(part))
	if r.have != r.at {
		copy(buf[r.have:], part)
	}
	n := uint32(len(part))
	r.have, r.at, r.left = r.have+n, r.at+n, r.left-n
	if r.op != OpText || r.deflated {
		return nil
	}
	n, ok := validPrefix(buf[r.valid:r.have])
	if r.valid += n; !ok {
		return errUTF8
	}
	return nil
}

// finish returns the gathered message.
func (r *Reader) finish(buf []byte) (Frame, int, error) {
	if r.op == OpText && !r.deflated && r.valid != r.have {
		return Frame{}, 0, errUTF8
	}
	f := Frame{Op: r.op, Deflated: r.deflated, Payload: buf[:r.have:r.have]}
	n := int(r.at)
	*r = Reader{Deflate: r.Deflate}
	return f, n, nil
}

// closeHole moves the gathered bytes up over the hole once that is at least as
// large, so that neither moving nor the hole costs more than the bytes received;
// it returns how many bytes of buf are done with.
func (r *Reader) closeHole(buf []byte) int {
	hole := r.at - r.have
	if hole < r.have {
		return 0
	}
	copy(buf[hole:r.at], buf[:r.have])
	r.at = r.have
	return int(hole)
}

// control returns the control frame at the front of b, if it is all there.
func control(h ws.Header, b []byte, size int) (Frame, int, error) {
	end := size + int(h.Length) // at most 125
	if len(b) < end {
		return Frame{}, 0, nil
	}
	f := Frame{Op: Op(h.OpCode), Payload: b[size:end:end]}
	ws.Cipher(f.Payload, h.Mask, 0)
	if f.Op != OpClose || len(f.Payload) == 0 {
		return f, end, nil
	}
	if len(f.Payload) == 1 {
		return Frame{}, 0, protocolError("the close frame has half a code")
	}
	f.Close = proto.CloseCode(binary.BigEndian.Uint16(f.Payload))
	f.Payload = f.Payload[2:]
	if !mayBeSent(f.Close) {
		return Frame{}, 0, protocolError("the close code is not one that may be sent")
	}
	if !utf8.Valid(f.Payload) {
		return Frame{}, 0, &Error{proto.CloseInvalidData, "the close reason is not UTF-8"}
	}
	return f, end, nil
}

// mayBeSent reports whether an endpoint may put c into a close frame: RFC 6455, 7.4, and
// later registrations.
func mayBeSent(c proto.CloseCode) bool {
	switch {
	case c >= 1000 && c <= 1014:
		return c != 1004 && c != 1005 && c != 1006
	default:
		return c >= 3000 && c <= 4999
	}
}

// rotate turns mask so that it fits the byte that is n behind.
func rotate(mask [4]byte, n int) [4]byte {
	binary.LittleEndian.PutUint32(mask[:], bits.RotateLeft32(binary.LittleEndian.Uint32(mask[:]), -8*(n%4)))
	return mask
}

// validPrefix returns how many bytes at the front of p are whole runes. ok is false if the
// bytes after them can no longer become one.
func validPrefix(p []byte) (n uint32, ok bool) {
	whole := len(p)
	for i := 1; i <= min(len(p), utf8.UTFMax-1); i++ {
		if tail := p[len(p)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				whole -= i
			}
			break
		}
	}
	return uint32(whole), utf8.Valid(p[:whole])
}
