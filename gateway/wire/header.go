package wire

import (
	"encoding/binary"

	"github.com/gobwas/ws"
)

// parseHeader reads the header of a frame at the beginning of b and returns its size. If b does
// not contain the whole header yet, the size is 0.
func parseHeader(b []byte) (h ws.Header, size int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h, size = firstBytes(b), 2
	switch h.Length {
	case 126:
		if len(b) < 4 {
			return h, 0, nil
		}
		h.Length = int64(binary.BigEndian.Uint16(b[2:]))
		size = 4
		if h.Length < 126 {
			return h, 0, protocolError("the length is not in its shortest form")
		}
	case 127:
		if len(b) < 10 {
			return h, 0, nil
		}
		h.Length = int64(binary.BigEndian.Uint64(b[2:]))
		size = 10
		if h.Length < 0 {
			return h, 0, protocolError("the length's highest bit is set")
		}
		if h.Length < 1<<16 {
			return h, 0, protocolError("the length is not in its shortest form")
		}
	}
	if h.Masked {
		if len(b) < size+4 {
			return h, 0, nil
		}
		copy(h.Mask[:], b[size:])
		size += 4
	}
	return h, size, nil
}

// firstBytes returns what the first two bytes of a frame say. A Length of 126 or 127 means that the
// length follows.
func firstBytes(b []byte) ws.Header {
	return ws.Header{
		Fin:    b[0]&0x80 != 0,
		Rsv:    b[0] >> 4 & 0x7,
		OpCode: ws.OpCode(b[0] & 0xF),
		Masked: b[1]&0x80 != 0,
		Length: int64(b[1] & 0x7F),
	}
}

// checkFirst returns an error if the first two bytes of a frame show that it is wrong. So the
// reader need not wait for the rest of the header.
func (r *Reader) checkFirst(b []byte) error {
	if len(b) < 2 {
		return nil
	}
	h := firstBytes(b) // a Length of 126 or 127 also exceeds the limit of a control frame
	state := ws.StateServerSide
	if r.op != 0 {
		state = state.Set(ws.StateFragmented)
	}
	if r.Framing == Deflated && h.Rsv1() && h.OpCode.IsData() && h.OpCode != ws.OpContinuation {
		h.Rsv &^= 0b100 // this bit means that the message is compressed
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return protocolError(err.Error())
	}
	return nil
}
