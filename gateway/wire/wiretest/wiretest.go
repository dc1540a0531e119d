// Package wiretest is the protocol suite. It contains the requirements of RFC 6455 and RFC 7692
// for a server as a table: the bytes to send, and the messages that the server must return. It
// runs over real connections against any server that echoes messages. It sends every case in
// several ways: at once, byte by byte, and divided inside headers.
package wiretest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"roomcast/gateway/wire"
	"roomcast/proto"
)

// Target is an echo server under test.
type Target struct {
	Addr    string // host:port, TCP
	Path    string
	Limits  wire.Limits // the limits that the server applies
	Deflate bool        // the server accepts an offer of permessage-deflate

	// First is a request that the suite sends on each connection before the handshake; "" =
	// none. The server must answer it with net/http and keep the connection open.
	First string
}

// Case is one row of the suite.
type Case struct {
	Name string
	Send []byte // the bytes to send after the handshake
	Want []Message
	// Close is the code with which the server must end the connection. NoCode means that it must
	// answer an empty close frame. 0 means that the connection must stay open.
	Close proto.CloseCode
}

// Message is a message or a pong that the server must send.
type Message struct {
	Op      wire.Op
	Payload []byte
}

// NoCode stands for a close frame without a code (RFC 6455, 7.1.5).
const NoCode proto.CloseCode = 1005

// patience is how long a server may take to answer.
const patience = 10 * time.Second

// Run runs the whole suite.
func Run(t *testing.T, target Target) {
	t.Run("handshake", func(t *testing.T) { RunHandshakes(t, target) })
	runCases(t, target, Cases(target.Limits), false)
	if target.Deflate {
		runCases(t, target, deflateCases(target.Limits), true)
	}
}

func runCases(t *testing.T, target Target, cases []Case, deflate bool) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			for _, chop := range chops {
				t.Run(chop.name, func(t *testing.T) { play(t, target, c, deflate, chop.pieces) })
			}
		})
	}
}

// chops are the ways in which the suite divides the bytes before it sends them.
var chops = []struct {
	name   string
	pieces func([]byte) [][]byte
}{
	{"whole", func(b []byte) [][]byte { return [][]byte{b} }},
	{"bytes", singly},
	{"midheader", func(b []byte) [][]byte {
		var pieces [][]byte
		for _, at := range []int{1, 3, 5} { // inside the length, inside the mask, and before the payload
			if n := min(at, len(b)); n > 0 {
				pieces, b = append(pieces, b[:n]), b[n:]
			}
		}
		return append(pieces, b)
	}},
}

// singly divides b into single bytes. If b is long, it does so only at the beginning and the end.
// The pieces of the middle are longer, and begin at arbitrary places in the frames.
func singly(b []byte) [][]byte {
	const edge = 300
	if len(b) <= 2*edge {
		return slices.Collect(slices.Chunk(b, 1))
	}
	pieces := slices.Collect(slices.Chunk(b[:edge], 1))
	pieces = slices.AppendSeq(pieces, slices.Chunk(b[edge:len(b)-edge], 4999))
	return slices.AppendSeq(pieces, slices.Chunk(b[len(b)-edge:], 1))
}

// play runs a case over a new connection. If deflate is true, it offers compression.
func play(t *testing.T, target Target, c Case, deflate bool, chop func([]byte) [][]byte) {
	conn, err := net.Dial("tcp", target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := &incoming{conn: conn, deflate: deflate}
	if err := in.handshake(target); err != nil {
		t.Fatal(err)
	}

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, piece := range chop(c.Send) {
			if _, err := conn.Write(piece); err != nil {
				return // the server may close the connection early, because only its answer matters
			}
		}
	}()
	defer func() { <-sent }()
	defer conn.Close()

	for i, want := range c.Want {
		got, err := in.next()
		if err != nil {
			t.Fatalf("message %d: %v, want op %x", i, err, want.Op)
		}
		if got.Op != want.Op || !bytes.Equal(got.Payload, want.Payload) {
			t.Fatalf("message %d: got op %x %.40q (%d bytes), want op %x %.40q (%d bytes)",
				i, got.Op, got.Payload, len(got.Payload), want.Op, want.Payload, len(want.Payload))
		}
	}
	want := c.Close
	if want == 0 {
		<-sent
		want = proto.CloseNormal
		if _, err := conn.Write(frame(opClose, closeBody(want, "done"))); err != nil {
			t.Fatal(err)
		}
	}
	last, err := in.next()
	if err != nil || last.Op != wire.OpClose {
		t.Fatalf("got op %x %.40q, %v, want a close frame with %d", last.Op, last.Payload, err, want)
	}
	if code := codeOf(last.Payload); code != want {
		t.Fatalf("got close code %d %.80q, want %d", code, last.Payload, want)
	}
	// After its close frame, the server must only close the connection.
	<-sent
	conn.(*net.TCPConn).CloseWrite()
	if more, err := in.next(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the close frame: got op %x, %v, want EOF", more.Op, err)
	}
}
