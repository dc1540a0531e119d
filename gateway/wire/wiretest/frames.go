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
	"roomcast/gateway/wire/wstest"
	"roomcast/proto"
)

// The opcodes and bits are plain numbers, because the suite also sends numbers that do not
// exist.
const (
	opContinue = wstest.Continue
	opText     = wstest.Text
	opBinary   = wstest.Binary
	opClose    = wstest.Close
	opPing     = wstest.Ping
	opPong     = wstest.Pong

	fin  = wstest.Fin
	rsv1 = wstest.Rsv1
	rsv2 = wstest.Rsv2
	rsv3 = wstest.Rsv3
)

// raw returns a masked frame with the given first byte.
func raw(bits byte, payload []byte) []byte {
	return wstest.AppendMasked(nil, bits, payload)
}

// frame returns a masked frame with the given opcode that is a whole message.
func frame(op byte, payload []byte) []byte { return raw(fin|op, payload) }

func text(s string) []byte { return frame(opText, []byte(s)) }

// masked returns a frame made of the given parts. The first byte of length is the second byte of
// the frame, without the mask bit. The rest of length is the extended length.
func masked(bits byte, length []byte, key [4]byte, payload []byte) []byte {
	b := append([]byte{bits}, length...)
	b[1] |= 0x80
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// unmasked returns a frame without a mask, which only a server may send.
func unmasked(bits byte, payload []byte) []byte {
	return append(wstest.AppendHeader(nil, bits, len(payload)), payload...)
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

// incoming reads frames from the server. It returns an error if a frame is not correct.
type incoming struct {
	conn     net.Conn
	r        *bufio.Reader
	deflate  bool
	inflater wire.Inflater
}

// handshake performs the WebSocket handshake.
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

func request(path, more string) string { return wstest.Request(path, "example.com", more) }

// next returns the next frame. It returns an error for a fragment, because a server has no
// reason to send fragments.
func (in *incoming) next() (m Message, err error) {
	first, payload, err := wstest.Read(in.r)
	if err != nil {
		return m, err
	}
	compressed := in.deflate && first&rsv1 != 0
	if first&fin == 0 || first&(rsv1|rsv2|rsv3) != 0 && !compressed {
		return m, fmt.Errorf("got a frame whose first byte is %x", first)
	}
	if m = (Message{Op: wire.Op(first & 0xF), Payload: payload}); !compressed {
		return m, nil
	}
	p, err := in.inflater.Inflate(wire.Frame{Op: m.Op, Payload: m.Payload}, &wire.Limits{Message: 64 << 20})
	m.Payload = bytes.Clone(p)
	return m, err
}
