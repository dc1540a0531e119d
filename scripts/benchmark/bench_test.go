//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/wire/wstest"
)

func TestRelayCopiesCompleteFrames(t *testing.T) {
	in := wstest.AppendMasked(wstest.AppendMasked(nil, wstest.Fin|wstest.Text, []byte("one")), wstest.Fin|wstest.Text, bytes.Repeat([]byte("2"), 300))
	for _, want := range []string{stamp + "one", stamp + strings.Repeat("2", 300)} {
		_, got, _ := wstest.Next(relay(nil, &in))
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if len(in) != 0 {
		t.Errorf("%d bytes are left", len(in))
	}
}

func TestHexReadsWhatPutHexWrites(t *testing.T) {
	var b [8]byte
	for _, v := range []uint32{0, 1, 0xdeadbeef, 1<<32 - 2} {
		if putHex(b[:], v); hex(b[:]) != v {
			t.Errorf("got %x, want %x", hex(b[:]), v)
		}
	}
}

func TestQuantileIsAtMostFourPercentTooHigh(t *testing.T) {
	var h histogram
	for i := range 10_000 {
		h.add(time.Duration(i) * time.Microsecond)
	}
	for _, q := range []float64{0, 0.01, 0.5, 0.99} {
		want := 10_000 * q
		if got := micros(h.quantile(q)); got < want || got > want*1.04+1 {
			t.Errorf("quantile %v: got %v µs, want %v", q, got, want)
		}
	}
}

// The type talk must notice a message that is missing, repeated, swapped with another, or delivered
// to a wrong member.
func TestTalkFindsWrongDeliveries(t *testing.T) {
	for name, heard := range map[string][]int{"all": {1, 2, 3}, "missing": {1, 3}, "repeated": {1, 1}, "swapped": {2, 1}} {
		s := &swarm{members: []member{{room: 0}, {room: 1}}, start: time.Now()}
		k := newTalk(s, 2, 1, messageSize)
		k.speaks[0].last = 3
		text := append([]byte(stamp), k.text...)
		putHex(text[len(stamp):], 0)
		for _, n := range heard {
			putHex(text[len(stamp)+9:], uint32(n))
			k.hear(0, text)
		}
		if got, want := k.faults > 0, name != "all"; got != want {
			t.Errorf("%s: got fault %v (%s), want %v", name, got, k.wrong, want)
		}
		before := k.faults
		if k.hear(1, text); k.faults != before+1 {
			t.Errorf("%s: the talk accepts a message of another room", name)
		}
	}
}
