package wire

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/httphead"
	"github.com/gobwas/ws/wsflate"

	"roomcast/proto"
)

// The server agrees to permessage-deflate only without context takeover. It compresses every
// message independently of the earlier ones. So all members can receive the same compressed
// bytes, and a connection needs no compression state.

const (
	minDeflate = 128      // length in bytes of the shortest message that is worth compressing
	rsv1       = 0x40     // the bit in a frame's first byte that marks a compressed message
	keepBuffer = 64 << 10 // size in bytes of the largest buffer that is kept for the next message
)

// A flush ends every deflate stream with flushTail, which is not sent (RFC 7692, 7.2.1). endTail
// restores these bytes and adds an empty last block. From this block the inflater knows that the
// stream ends.
const (
	flushTail = "\x00\x00\xff\xff"
	endTail   = flushTail + "\x01\x00\x00\xff\xff"
)

// Deflater compresses each message independently of the others, so that every member can receive
// the same bytes. The zero Deflater is ready for use. One goroutine owns it.
type Deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

// AppendDeflated appends a compressed message. If compression would not make the message
// shorter, it appends the message without compression.
func (d *Deflater) AppendDeflated(b []byte, op Op, payload []byte) []byte {
	if len(payload) >= minDeflate {
		if packed := d.deflate(payload); len(packed) < len(payload) {
			return append(appendHeader(b, rsv1|byte(op), len(packed)), packed...)
		}
	}
	return AppendFrame(b, op, payload)
}

// deflate returns the compressed payload, which is valid until the next call.
func (d *Deflater) deflate(payload []byte) []byte {
	if d.out.Cap() > keepBuffer {
		d.out = bytes.Buffer{}
	}
	d.out.Reset()
	if d.w == nil {
		d.w, _ = flate.NewWriter(nil, flate.BestSpeed) // no error, because the level is valid
	}
	d.w.Reset(&d.out)
	d.w.Write(payload) // writing to a bytes.Buffer cannot fail
	d.w.Flush()
	return bytes.TrimSuffix(d.out.Bytes(), []byte(flushTail))
}

// Inflater decompresses messages up to a maximum length. The zero Inflater is ready for use. One
// goroutine owns it.
type Inflater struct {
	in  inflateInput
	r   io.ReadCloser
	out []byte
}

// inflateInput reads a payload, followed by endTail, which clients do not send.
type inflateInput struct {
	payload bytes.Reader
	end     strings.Reader
}

func (in *inflateInput) Read(p []byte) (int, error) {
	if in.payload.Len() > 0 {
		return in.payload.Read(p)
	}
	return in.end.Read(p)
}

func (in *inflateInput) ReadByte() (byte, error) {
	if in.payload.Len() > 0 {
		return in.payload.ReadByte()
	}
	return in.end.ReadByte()
}

// Inflate returns the decompressed payload of the frame, which is valid until the next call. It
// checks that a text is UTF-8. Every error is an *Error. Its close code is 1009 if the message is
// longer than limits.Message.
func (i *Inflater) Inflate(f Frame, limits *Limits) ([]byte, error) {
	i.in.payload.Reset(f.Payload)
	i.in.end.Reset(endTail)
	if i.r == nil {
		i.r = flate.NewReader(&i.in)
	} else if err := i.r.(flate.Resetter).Reset(&i.in, nil); err != nil {
		return nil, &Error{proto.CloseInternal, "inflating is broken"}
	}
	if cap(i.out) > keepBuffer {
		i.out = nil
	}
	out := i.out[:0]
	for {
		if len(out) == cap(out) {
			out = slices.Grow(out, max(512, min(len(out), limits.Message+1-len(out))))
		}
		n, err := i.r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if len(out) > limits.Message {
			return nil, &Error{proto.CloseTooBig, "the message is too long"}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, &Error{proto.CloseInvalidData, "the message is not compressed as agreed"}
		}
	}
	i.out = out
	if f.Op == OpText && !utf8.Valid(out) {
		return nil, errUTF8
	}
	return out, nil
}

// deflateOffer reports whether the header Sec-WebSocket-Extensions contains an offer of
// permessage-deflate that the server can accept. The window of Go's deflate has a fixed size, so
// the server must refuse an offer that requires a smaller window. If bits is true, the offer
// names the server's window, and the answer must name it too.
func deflateOffer(offers []byte) (ok, bits bool) {
	options, valid := httphead.ParseOptions(offers, nil)
	if !valid {
		return false, false
	}
	for _, o := range options {
		if string(o.Name) != wsflate.ExtensionName {
			continue
		}
		var p wsflate.Parameters
		if p.Parse(o) != nil || p.ServerMaxWindowBits != 0 && p.ServerMaxWindowBits != 15 {
			continue
		}
		return true, p.ServerMaxWindowBits != 0
	}
	return false, false
}
