package wire_test

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"

	"roomcast/gateway/wire"
	"roomcast/proto"
)

func bufioReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

// Every byte of the frames must be the same as in the frames of the library gobwas.
func TestFramesAgreeWithGobwas(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 100_000} {
		p := bytes.Repeat([]byte{'x'}, n)
		check := func(what string, got []byte, want ws.Frame) {
			if !bytes.Equal(got, ws.MustCompileFrame(want)) {
				t.Errorf("%s of %d bytes: got % x ...", what, n, got[:min(len(got), 12)])
			}
		}
		check("text", wire.AppendFrame(nil, wire.OpText, p), ws.NewTextFrame(p))
		check("binary", wire.AppendFrame(nil, wire.OpBinary, p), ws.NewBinaryFrame(p))
		if n <= 125 {
			check("ping", wire.AppendFrame(nil, wire.OpPing, p), ws.NewPingFrame(p))
			check("pong", wire.AppendFrame(nil, wire.OpPong, p), ws.NewPongFrame(p))
		}
	}
	for _, tt := range []struct {
		code         proto.CloseCode
		reason, want string
	}{
		{1000, "", ""},
		{1001, "the gateway stops", "the gateway stops"},
		{4000, strings.Repeat("x", 200), strings.Repeat("x", 123)},
		{4000, strings.Repeat("你", 50), strings.Repeat("你", 41)},
	} {
		want := ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(tt.code), tt.want)))
		if got := wire.AppendClose(nil, tt.code, tt.reason); !bytes.Equal(got, want) {
			t.Errorf("close %d %q: got %q, want %q", tt.code, tt.reason, got, want)
		}
	}
	if got := wire.AppendClose(nil, 0, "ignored"); !bytes.Equal(got, []byte{0x88, 0}) {
		t.Errorf("empty close: got % x", got)
	}
}

func TestDeflatedFramesAreReadByGobwas(t *testing.T) {
	var d wire.Deflater
	for _, p := range []string{strings.Repeat("hello ", 50), "short", strings.Repeat("你好", 10_000)} {
		in := bytes.NewReader(d.AppendDeflated(nil, wire.OpText, []byte(p)))
		h, err := ws.ReadHeader(in)
		if err != nil || h.Length != int64(in.Len()) {
			t.Fatalf("got %+v, %v, followed by %d bytes", h, err, in.Len())
		}
		f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
		in.Read(f.Payload)
		if f.Header.Rsv1() != (len(p) >= 128) {
			t.Errorf("%.10q: compressed is %v", p, f.Header.Rsv1())
		}
		if f, err = wsflate.DecompressFrame(f); err != nil || string(f.Payload) != p {
			t.Errorf("%.10q: got %.10q, %v", p, f.Payload, err)
		}
	}
}

// A compression bomb must not need more memory than the limit. The inflater must still work
// afterwards.
func TestInflateIsBounded(t *testing.T) {
	var i wire.Inflater
	limits := wire.Limits{Message: 1000}
	bomb, err := wsflate.DefaultHelper.Compress(make([]byte, 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	allocs := testing.AllocsPerRun(1, func() {
		_, err := i.Inflate(wire.Frame{Op: wire.OpBinary, Payload: bomb}, &limits)
		var broken *wire.Error
		if !errors.As(err, &broken) || broken.Close != proto.CloseTooBig {
			t.Fatalf("got %v, want %v", err, proto.CloseTooBig)
		}
	})
	if allocs > 10 {
		t.Errorf("got %v allocations", allocs)
	}
	fine, _ := wsflate.DefaultHelper.Compress([]byte("fine"))
	if p, err := i.Inflate(wire.Frame{Op: wire.OpText, Payload: fine}, &limits); string(p) != "fine" || err != nil {
		t.Fatalf("got %q, %v", p, err)
	}
}

func BenchmarkDeflate(b *testing.B) {
	var d wire.Deflater
	p := []byte(strings.Repeat(`{"room":"lobby","seq":58,"from":{"id":"x"},"text":"hello"}`, 5))
	var out []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		out = d.AppendDeflated(out[:0], wire.OpText, p)
	}
}
