package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/gobwas/ws"

	"roomcast/gateway/wire"
	"roomcast/gateway/wire/wiretest"
)

// result contains the frames that a reader has returned, as text, and its error.
type result struct {
	frames []string
	err    wire.Error
	left   int // the most bytes that were left in the buffer at any time
}

// read passes the pieces to a reader in the way a loop does. It copies the bytes that the reader
// has not used, followed by the next piece, into a new buffer.
func read(pieces [][]byte, deflate bool, limits wire.Limits) (res result) {
	r := wire.Reader{}
	if deflate {
		r.Framing = wire.Deflated
	}
	var rest []byte
	for _, piece := range pieces {
		buf := append(bytes.Clone(rest), piece...)
		used := 0
		for used < len(buf) {
			f, n, err := r.Next(buf[used:], &limits)
			used += n
			var broken *wire.Error
			if errors.As(err, &broken) {
				res.err = *broken
				return res
			}
			if f.Op == 0 {
				break
			}
			res.frames = append(res.frames, fmt.Sprintf("%x %v %d %q", byte(f.Op), f.Deflated, f.Close, f.Payload))
		}
		rest = buf[used:]
		res.left = max(res.left, len(rest))
	}
	return res
}

// chopped divides b at random places.
func chopped(b []byte, rnd *rand.Rand) (pieces [][]byte) {
	b = bytes.Clone(b) // a copy, because readers change their input
	for len(b) > 0 {
		n := min(len(b), 1+rnd.IntN(1+rnd.IntN(200)))
		pieces, b = append(pieces, b[:n]), b[n:]
	}
	return pieces
}

func same(a, b result) bool {
	return fmt.Sprint(a.frames) == fmt.Sprint(b.frames) && a.err == b.err
}

// The reader must return the same frames and errors for divided input. It must also leave only a
// bounded number of bytes unused.
func TestReaderGivesTheSameForChoppedInput(t *testing.T) {
	limits := wire.Limits{Message: 4096, Fragments: 100}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, c := range wiretest.Cases(limits) {
		whole := read([][]byte{bytes.Clone(c.Send)}, false, limits)
		for range 5 {
			got := read(chopped(c.Send, rnd), false, limits)
			if !same(whole, got) {
				t.Fatalf("%s: chopped: got %.300v, whole: %.300v", c.Name, got, whole)
			}
			if got.left > 2*limits.Message+256 {
				t.Fatalf("%s: left %d bytes", c.Name, got.left)
			}
		}
	}
}

func TestReaderIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(wire.Reader{}); n > 32 {
		t.Fatalf("got %d bytes, want at most 32", n)
	}
}

func TestReaderDoesNotAllocate(t *testing.T) {
	limits := wire.Limits{Message: 4096, Fragments: 10}
	msg := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("hello, 你好"))))
	buf := make([]byte, len(msg))
	var r wire.Reader
	if n := testing.AllocsPerRun(100, func() {
		copy(buf, msg)
		if f, _, err := r.Next(buf, &limits); err != nil || f.Op != wire.OpText {
			t.Fatal(f, err)
		}
	}); n != 0 {
		t.Fatalf("got %v allocations a message, want 0", n)
	}
}

// FuzzReader compares the results of the reader for whole and for divided input. It also compares
// them with the results of gobwas, which reads frame by frame. One of the two may find an error
// earlier. Up to the first error, the reader must return all messages that gobwas returns.
func FuzzReader(f *testing.F) {
	limits := wire.Limits{Message: 4096, Fragments: 100}
	for _, c := range wiretest.Cases(limits) {
		if len(c.Send) < 2000 {
			f.Add(c.Send, false, uint64(1))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, deflate bool, seed uint64) {
		whole := read([][]byte{bytes.Clone(data)}, deflate, limits)
		got := read(chopped(data, rand.New(rand.NewPCG(seed, 0))), deflate, limits)
		if !same(whole, got) {
			t.Fatalf("chopped: got %v, whole: %v", got, whole)
		}
		if deflate {
			return
		}
		oracle, faulty := readOracle(data)
		for i, want := range oracle {
			if i >= len(whole.frames) {
				if whole.err.Close == 0 {
					t.Fatalf("got %d frames, gobwas finds %q next", i, want)
				}
				break
			}
			if whole.frames[i] != want {
				t.Fatalf("frame %d: got %s, gobwas: %s", i, whole.frames[i], want)
			}
		}
		if faulty && whole.err.Close == 0 {
			t.Fatalf("gobwas finds an error, the reader none: %q", whole.frames)
		}
	})
}

// readOracle reads frames with gobwas until the input ends or gobwas returns an error.
func readOracle(data []byte) (frames []string, faulty bool) {
	in := bytes.NewReader(data)
	state := ws.StateServerSide
	var op ws.OpCode
	var message []byte
	for {
		h, err := ws.ReadHeader(in)
		if err != nil {
			return frames, err != io.EOF && err != io.ErrUnexpectedEOF
		}
		if ws.CheckHeader(h, state) != nil {
			return frames, true
		}
		if h.Length > int64(in.Len()) {
			return frames, false
		}
		payload := make([]byte, h.Length)
		io.ReadFull(in, payload)
		ws.Cipher(payload, h.Mask, 0)
		switch {
		case h.OpCode == ws.OpClose && len(payload) == 0:
			frames = append(frames, `8 false 0 ""`)
		case h.OpCode == ws.OpClose:
			code, reason := ws.ParseCloseFrameData(payload)
			if len(payload) == 1 || ws.CheckCloseFrameData(code, reason) != nil {
				return frames, code < 1012 || code > 1014 // gobwas does not know these newer codes
			}
			frames = append(frames, fmt.Sprintf("8 false %d %q", code, reason))
		case h.OpCode.IsControl():
			frames = append(frames, fmt.Sprintf("%x false 0 %q", byte(h.OpCode), payload))
		default:
			if h.OpCode != ws.OpContinuation {
				op = h.OpCode
			}
			message = append(message, payload...)
			state = state.Set(ws.StateFragmented)
			if h.Fin {
				state = state.Clear(ws.StateFragmented)
				frames = append(frames, fmt.Sprintf("%x false 0 %q", byte(op), message))
				message = nil
			}
		}
	}
}

func BenchmarkReader(b *testing.B) {
	limits := wire.Limits{Message: 64 << 10, Fragments: 10}
	for _, size := range []int{16, 128, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			msg := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame(bytes.Repeat([]byte("x"), size))))
			buf := make([]byte, len(msg))
			var r wire.Reader
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				copy(buf, msg)
				if _, _, err := r.Next(buf, &limits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
