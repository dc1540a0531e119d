package wire

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"roomcast/proto"
)

// Reader divides the bytes from a client into frames. The zero Reader is ready for use. It is
// small and contains no pointer, so a slab can contain many.
//
// If a message arrives in several frames, the Reader gathers its parts at the beginning of the
// receive buffer. Behind them there is waste: the bytes of headers and control frames that were
// handled. The buffer looks like this:
//
//	| have: unmasked, checked | waste | at: not looked at yet ... |
type Reader struct {
	Framing Framing // the framing of the bytes from the client

	// The message that the Reader is gathering:
	op       Op   // opcode of the message; 0 = there is no message, and the fields below are zero
	deflated bool // the message is compressed
	fin      bool // the frame being read is the last one of the message
	mask     [4]byte
	left     uint32 // number of bytes of the frame being read that have not arrived
	parts    uint32 // number of frames so far
	have     uint32 // number of bytes gathered
	valid    uint32 // number of gathered bytes that are known to be valid UTF-8
	at       uint32 // offset of the first byte that Next has not handled
}

// Next returns the next frame in buf, and the number n of bytes that it no longer needs. Before
// the next call, the caller must remove the first n bytes of buf. It may then append newer bytes
// from the peer, but must not change the others.
//
// If buf does not contain a whole frame, Frame.Op is 0. Then at most 2 * limits.Message bytes and
// one frame remain in buf, so the caller can bound the buffer.
//
// Next works in place: it unmasks bytes, and moves the parts of a message together. So it also
// changes bytes after the first n. The payload of the frame is a part of buf. It is valid until
// the next call, or until the caller reuses buf.
//
// Next returns an error as soon as the bytes in buf are wrong, even before the frame is complete.
// Every error is an *Error. After an error, Next must not be called again.
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
	if end := int64(size) + h.Length; h.Fin && end <= int64(len(buf)) { // this is the most frequent case
		f = Frame{Op: r.op, Deflated: r.deflated, Payload: buf[size:end:end]}
		*r = Reader{Framing: r.Framing}
		ws.Cipher(f.Payload, h.Mask, 0)
		if f.Op == OpText && !f.Deflated && !utf8.Valid(f.Payload) {
			return Frame{}, 0, errUTF8
		}
		return f, int(end), nil
	}
	f, n, err = r.gather(buf[size:], limits)
	return f, size + n, err
}

// Partial reports whether a message has begun and is not complete.
func (r *Reader) Partial() bool { return r.op != 0 }

var errUTF8 = &Error{proto.CloseInvalidData, "a text message is not UTF-8"}

// begin handles the header of a message's first frame.
func (r *Reader) begin(h ws.Header, limits *Limits) error {
	r.op = Op(h.OpCode)
	r.deflated = h.Rsv1()
	return r.part(h, limits)
}

// part handles the header of a frame that belongs to the gathered message.
func (r *Reader) part(h ws.Header, limits *Limits) error {
	limit := int64(limits.Message)
	if r.deflated {
		limit += limit/64 + 64 // a message that deflate cannot compress may become longer by this much
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

// gather continues to gather a message until the message is complete, a control frame arrives,
// or buf ends.
func (r *Reader) gather(buf []byte, limits *Limits) (Frame, int, error) {
	for {
		if err := r.move(buf); err != nil {
			return Frame{}, 0, err
		}
		if r.left == 0 && r.fin {
			return r.finish(buf)
		}
		if r.left > 0 {
			return Frame{}, r.dropWaste(buf), nil
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
			return Frame{}, r.dropWaste(buf), nil
		}
		if h.OpCode.IsControl() {
			f, n, err := control(h, rest, size)
			if r.at += uint32(n); err != nil || n > 0 {
				return f, 0, err
			}
			return f, r.dropWaste(buf), nil
		}
		r.at += uint32(size)
		if err := r.part(h, limits); err != nil {
			return Frame{}, 0, err
		}
	}
}

// move unmasks bytes of the frame being read, and appends them to the gathered bytes.
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
	*r = Reader{Framing: r.Framing}
	return f, n, nil
}

// dropWaste moves the gathered bytes to the end of the waste, so that the waste is now at the
// beginning of buf. It returns the length of the waste, which the caller can remove.
//
// It moves nothing and returns 0 if there is less waste than gathered bytes. So all moves
// together copy no more bytes than were received, and the waste stays smaller than the message.
func (r *Reader) dropWaste(buf []byte) int {
	waste := r.at - r.have
	if waste < r.have {
		return 0
	}
	copy(buf[waste:r.at], buf[:r.have])
	r.at = r.have
	return int(waste)
}

// control returns the control frame at the beginning of b, if b contains the whole frame.
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

// mayBeSent reports whether a close frame may contain the code c. RFC 6455, 7.4, and later
// registrations define these codes.
func mayBeSent(c proto.CloseCode) bool {
	switch {
	case c >= 1000 && c <= 1014:
		return c != 1004 && c != 1005 && c != 1006
	default:
		return c >= 3000 && c <= 4999
	}
}

// rotate returns the mask for the bytes that come after the next n bytes. For example, after one
// byte the mask begins with mask[1].
func rotate(mask [4]byte, n int) [4]byte {
	binary.LittleEndian.PutUint32(mask[:], bits.RotateLeft32(binary.LittleEndian.Uint32(mask[:]), -8*(n%4)))
	return mask
}

// validPrefix returns how many bytes at the beginning of p form whole characters. It ignores a
// last character that is not complete. It returns false if p cannot be the beginning of a UTF-8
// text.
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
