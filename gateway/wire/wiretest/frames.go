package wiretest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"roomcast/gateway/wire"
	"roomcast/proto"
)

// The opcodes, as numbers, since the suite also sends those that do not exist.
const (
	opContinue = 0x0
	opText     = 0x1
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xA

	fin  = 0x80
	rsv1 = 0x40
	rsv2 = 0x20
	rsv3 = 0x10
)

var mask = [4]byte{0x37, 0xFA, 0x21, 0x3D} // of the examples in RFC 6455, 5.7

// raw builds a masked frame whose first byte is bits.
func raw(bits byte, payload []byte) []byte {
	return masked(bits, shortest(len(payload)), mask, payload)
}

// frame builds a whole masked frame.
func frame(op byte, payload []byte) []byte { return raw(fin|op, payload) }

func text(s string) []byte { return frame(opText, []byte(s)) }

// masked builds a frame from its parts; length is the second byte without the
// mask bit, and what follows it.
func masked(bits byte, length []byte, key [4]byte, payload []byte) []byte {
	b := append([]byte{bits}, length...)
	b[1] |= 0x80
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// unmasked builds a frame as only a server may send it.
func unmasked(bits byte, payload []byte) []byte {
	return append(append([]byte{bits}, shortest(len(payload))...), payload...)
}

func shortest(n int) []byte {
	switch {
	case n < 126:
		return []byte{byte(n)}
	case n < 1<<16:
		return length16(n)
	default:
		return length64(uint64(n))
	}
}

func length16(n int) []byte    { return binary.BigEndian.AppendUint16([]byte{126}, uint16(n)) }
func length64(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{127}, n) }

func closeBody(code proto.CloseCode, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

func codeOf(payload []byte) proto.CloseCode {
	if len(payload) < 2 {
		return NoCode
	}
	return proto.CloseCode(binary.BigEndian.Uint16(payload))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// incoming reads what the server sends, strictly.
type incoming struct {
	conn     net.Conn
	r        *bufio.Reader
	deflate  bool
	inflater wire.Inflater
}

// handshake upgrades the connection.
func (in *incoming) handshake(target Target) error {
	extension := ""
	if in.deflate {
		extension = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	}
	io.WriteString(in.conn, request(target.Path, extension))
	in.r = bufio.NewReader(in.conn)
	resp, err := http.ReadResponse(in.r, nil)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("handshake: got %s", resp.Status)
	}
	agreed := resp.Header.Get("Sec-WebSocket-Extensions")
	if in.deflate != strings.HasPrefix(agreed, "permessage-deflate") {
		return fmt.Errorf("handshake: got extensions %q", agreed)
	}
	return nil
}

func request(path, more string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + more + "\r\n"
}

// next returns the next frame; a server has no reason to fragment.
func (in *incoming) next() (m Message, err error) {
	var head [2]byte
	if _, err := io.ReadFull(in.r, head[:]); err != nil {
		return m, err
	}
	compressed := in.deflate && head[0]&rsv1 != 0
	if head[0]&fin == 0 || head[0]&(rsv1|rsv2|rsv3) != 0 && !compressed || head[1]&0x80 != 0 {
		return m, fmt.Errorf("bad frame header % x", head)
	}
	m.Op = wire.Op(head[0] & 0xF)
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(in.r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(in.r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil {
		return m, err
	}
	m.Payload = make([]byte, n)
	if _, err := io.ReadFull(in.r, m.Payload); err != nil || !compressed {
		return m, err
	}
	p, err := in.inflater.Inflate(wire.Frame{Op: m.Op, Payload: m.Payload}, &wire.Limits{Message: 64 << 20})
	m.Payload = bytes.Clone(p)
	return m, err
}
