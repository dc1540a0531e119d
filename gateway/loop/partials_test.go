package loop

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestPartialsAgainstModel makes connections keep, grow and use bytes at random. It compares the
// bytes with a simple model. At the end, the partials must be empty.
func TestPartialsAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	var partials partials
	conns := make([]conn, 20)
	want := make([][]byte, len(conns))
	scratch := make([]byte, 40_000)
	for range 3000 {
		i := rnd.IntN(len(conns))
		c := &conns[i]
		switch t := partials.of(c); rnd.IntN(4) {
		case 0: // read into another buffer, as for small partials
			if len(want[i]) >= len(scratch) {
				continue
			}
			n := copy(scratch, want[i])
			n += rnd.IntN(min(1<<rnd.IntN(16), len(scratch)-n))
			fill(scratch[len(want[i]):n], rnd)
			rest := scratch[rnd.IntN(n+1):n]
			partials.keep(c, rest)
			want[i] = bytes.Clone(rest)
		case 1: // read into the partial, as for big ones
			if t == nil {
				continue
			}
			t = partials.grow(c)
			b := t.b[:cap(t.b)]
			fill(b[len(t.b):], rnd)
			want[i] = bytes.Clone(b)
			partials.keep(c, b)
			if len(b) > 1<<16 {
				partials.keep(c, nil)
				want[i] = nil
			}
		case 2: // use some bytes
			if t == nil {
				continue
			}
			rest := t.b[rnd.IntN(len(t.b)+1):]
			want[i] = bytes.Clone(rest)
			partials.keep(c, rest)
		case 3:
			partials.drop(c)
			want[i] = nil
		}
		var got []byte
		if tl := partials.of(c); tl != nil {
			got = tl.b
		}
		if !bytes.Equal(got, want[i]) {
			t.Fatalf("connection %d: got %d bytes, want %d", i, len(got), len(want[i]))
		}
	}
	for i := range conns {
		partials.keep(&conns[i], nil)
	}
	if held := len(partials.held) - len(partials.unused); held != 0 || len(partials.held) > len(conns) {
		t.Fatalf("got %d of %d places held, want none", held, len(partials.held))
	}
	for i, tl := range partials.held {
		if tl != nil {
			t.Fatalf("place %d holds %d bytes", i, len(tl.b))
		}
	}
}

func fill(b []byte, rnd *rand.Rand) {
	first := byte(rnd.Int())
	for i := range b {
		b[i] = first + byte(i)
	}
}

// A new buffer is at most twice as large as its first bytes.
func TestPartialsWasteAtMostHalf(t *testing.T) {
	var ts partials
	for n := minPartial; n < 1<<20; n += n/7 + 1 {
		c := new(conn)
		ts.keep(c, make([]byte, n))
		if got := cap(ts.of(c).b); got > 2*n {
			t.Errorf("%d bytes take a buffer of %d", n, got)
		}
		ts.drop(c)
	}
}
