package loop

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestTailsAgainstModel lets connections keep, grow and use up bytes at random,
// and finds in the end that nothing is held.
func TestTailsAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	var tails tails
	conns := make([]conn, 20)
	want := make([][]byte, len(conns))
	scratch := make([]byte, 40_000)
	for range 3000 {
		i := rnd.IntN(len(conns))
		c := &conns[i]
		switch t := tails.of(c); rnd.IntN(4) {
		case 0: // read behind what there is, as for small tails
			if len(want[i]) >= len(scratch) {
				continue
			}
			n := copy(scratch, want[i])
			n += rnd.IntN(min(1<<rnd.IntN(16), len(scratch)-n))
			fill(scratch[len(want[i]):n], rnd)
			rest := scratch[rnd.IntN(n+1):n]
			tails.keep(c, rest)
			want[i] = bytes.Clone(rest)
		case 1: // read into the tail, as for big ones
			if t == nil {
				continue
			}
			t = tails.grow(c)
			b := t.b[:cap(t.b)]
			fill(b[len(t.b):], rnd)
			want[i] = bytes.Clone(b)
			tails.keep(c, b)
			if len(b) > 1<<16 {
				tails.keep(c, nil)
				want[i] = nil
			}
		case 2: // use some
			if t == nil {
				continue
			}
			rest := t.b[rnd.IntN(len(t.b)+1):]
			want[i] = bytes.Clone(rest)
			tails.keep(c, rest)
		case 3:
			tails.drop(c)
			want[i] = nil
		}
		var got []byte
		if tl := tails.of(c); tl != nil {
			got = tl.b
		}
		if !bytes.Equal(got, want[i]) {
			t.Fatalf("connection %d: got %d bytes, want %d", i, len(got), len(want[i]))
		}
	}
	for i := range conns {
		tails.keep(&conns[i], nil)
	}
	if held := len(tails.held) - len(tails.unused); held != 0 || len(tails.held) > len(conns) {
		t.Fatalf("got %d of %d places held, want none", held, len(tails.held))
	}
	for i, tl := range tails.held {
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

// A buffer is at most twice as large as what it was taken for.
func TestTailsWasteAtMostHalf(t *testing.T) {
	var ts tails
	for n := minTail; n < 1<<20; n += n/7 + 1 {
		c := new(conn)
		ts.keep(c, make([]byte, n))
		if got := cap(ts.of(c).b); got > 2*n {
			t.Errorf("%d bytes take a buffer of %d", n, got)
		}
		ts.drop(c)
	}
}
