package wiretest

import (
	"bytes"
	"fmt"
	"strings"

	"roomcast/gateway/wire"
	"roomcast/gateway/wire/wstest"
	"roomcast/proto"
)

// Cases returns all cases without compression, for a server that applies the limits.
func Cases(limits wire.Limits) []Case {
	var all []Case
	for _, part := range []func(wire.Limits) []Case{
		framingCases, controlCases, reservedCases, fragmentCases, textCases, closeCases, limitCases,
	} {
		all = append(all, part(limits)...)
	}
	return all
}

func echoes(op byte, payload []byte) []Message { return []Message{{wire.Op(op), payload}} }

// filler returns n bytes of text that repeats every 23 bytes. So the comparison notices bytes
// that were shifted.
func filler(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i%23)
	}
	return b
}

func framingCases(limits wire.Limits) (all []Case) {
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, limits.Message} {
		if n > limits.Message {
			continue
		}
		b := bytes.Repeat([]byte{0xFE}, n)
		all = append(all,
			Case{Name: fmt.Sprintf("framing/text of %d bytes", n), Send: frame(opText, filler(n)), Want: echoes(opText, filler(n))},
			Case{Name: fmt.Sprintf("framing/binary of %d bytes", n), Send: frame(opBinary, b), Want: echoes(opBinary, b)})
	}
	for _, n := range []int{0, 1, 125} {
		all = append(all, Case{Name: fmt.Sprintf("framing/%d bytes with a 16 bit length", n), Send: masked(fin|opText, length16(n), wstest.Mask, filler(n)), Close: 1002})
	}
	for _, n := range []int{0, 125, 126, 65535} {
		all = append(all, Case{Name: fmt.Sprintf("framing/%d bytes with a 64 bit length", n), Send: masked(fin|opText, length64(uint64(n)), wstest.Mask, filler(n)), Close: 1002})
	}
	for _, op := range []byte{opText, opBinary, opPing, opPong, opClose} {
		all = append(all, Case{Name: fmt.Sprintf("framing/unmasked frame of op %x", op), Send: unmasked(fin|op, []byte("no")), Close: 1002})
	}
	for _, n := range []uint64{1 << 63, 1<<63 + 1, 1<<64 - 1} {
		all = append(all, Case{Name: fmt.Sprintf("framing/length %x", n), Send: masked(fin|opBinary, length64(n), wstest.Mask, []byte{1}), Close: 1002})
	}
	return append(all,
		Case{Name: "framing/mask 0", Send: masked(fin|opText, wstest.Length(5), [4]byte{}, []byte("plain")), Want: echoes(opText, []byte("plain"))},
		Case{Name: "framing/mask of ones", Send: masked(fin|opText, wstest.Length(5), [4]byte{255, 255, 255, 255}, []byte("plain")), Want: echoes(opText, []byte("plain"))},
		Case{Name: "framing/example of RFC 6455", Send: []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, Want: echoes(opText, []byte("Hello"))},
		Case{Name: "framing/three messages in one piece", Send: join(text("a"), frame(opBinary, []byte("b")), text("c")),
			Want: []Message{{wire.OpText, []byte("a")}, {wire.OpBinary, []byte("b")}, {wire.OpText, []byte("c")}}},
	)
}

func controlCases(limits wire.Limits) (all []Case) {
	for _, n := range []int{0, 1, 4, 124, 125} {
		b := bytes.Repeat([]byte{0xFE}, n)
		all = append(all,
			Case{Name: fmt.Sprintf("control/ping of %d bytes", n), Send: frame(opPing, b), Want: echoes(opPong, b)},
			Case{Name: fmt.Sprintf("control/unasked pong of %d bytes", n), Send: join(frame(opPong, b), text("on")), Want: echoes(opText, []byte("on"))})
	}
	for _, op := range []byte{opPing, opPong, opClose} {
		body := append(closeBody(1000, ""), filler(124)...)
		all = append(all,
			Case{Name: fmt.Sprintf("control/op %x of 126 bytes", op), Send: frame(op, body), Close: 1002},
			Case{Name: fmt.Sprintf("control/op %x of 65536 bytes", op), Send: masked(fin|op, length64(65536), wstest.Mask, filler(10)), Close: 1002},
			Case{Name: fmt.Sprintf("control/op %x in fragments", op), Send: raw(op, body[:2]), Close: 1002},
			Case{Name: fmt.Sprintf("control/op %x in fragments inside a message", op), Send: join(raw(opText, nil), raw(op, body[:2])), Close: 1002})
	}
	var ten []byte
	var pongs []Message
	for i := range 10 {
		p := fmt.Appendf(nil, "ping %d", i)
		ten = append(ten, frame(opPing, p)...)
		pongs = append(pongs, Message{wire.OpPong, p})
	}
	return append(all,
		Case{Name: "control/ten pings", Send: ten, Want: pongs},
		Case{Name: "control/ping behind a message", Send: join(text("first"), frame(opPing, []byte("x"))),
			Want: []Message{{wire.OpText, []byte("first")}, {wire.OpPong, []byte("x")}}})
}

// reservedCases returns a case for every combination of reserved bits with every kind of frame,
// and for every opcode that does not exist.
func reservedCases(limits wire.Limits) (all []Case) {
	for bits := byte(1); bits < 8; bits++ {
		for _, op := range []byte{opText, opBinary, opPing, opPong, opClose} {
			all = append(all, Case{Name: fmt.Sprintf("reserved/bits %03b on op %x", bits, op), Send: raw(fin|bits<<4|op, nil), Close: 1002})
		}
		all = append(all,
			Case{Name: fmt.Sprintf("reserved/bits %03b on a continuation", bits), Send: join(raw(opText, []byte("a")), raw(fin|bits<<4|opContinue, []byte("b"))), Close: 1002},
			Case{Name: fmt.Sprintf("reserved/bits %03b after a message", bits), Send: join(text("fine"), raw(fin|bits<<4|opText, []byte("x"))), Want: echoes(opText, []byte("fine")), Close: 1002})
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all = append(all,
			Case{Name: fmt.Sprintf("reserved/op %x", op), Send: frame(op, nil), Close: 1002},
			Case{Name: fmt.Sprintf("reserved/op %x with a payload", op), Send: frame(op, filler(64)), Close: 1002},
			Case{Name: fmt.Sprintf("reserved/op %x after a message", op), Send: join(text("fine"), frame(op, nil), frame(opPing, nil)), Want: echoes(opText, []byte("fine")), Close: 1002})
	}
	return all
}

func fragmentCases(limits wire.Limits) (all []Case) {
	parts := func(op byte, parts ...string) []byte {
		var b []byte
		for i, p := range parts {
			bits := op
			if i > 0 {
				bits = opContinue
			}
			if i == len(parts)-1 {
				bits |= fin
			}
			b = append(b, raw(bits, []byte(p))...)
		}
		return b
	}
	for _, op := range []byte{opText, opBinary} {
		for _, f := range [][]string{
			{"frag", "ments"}, {"a", "b", "c", "d", "e", "f"}, {"", "late"}, {"early", ""}, {"a", "", "b"}, {"", "", ""}, {"", ""},
			strings.Split(string(filler(100)), ""),
		} {
			all = append(all, Case{Name: fmt.Sprintf("fragments/op %x in %d: %.20q", op, len(f), f), Send: parts(op, f...), Want: echoes(op, []byte(strings.Join(f, "")))})
		}
		all = append(all,
			Case{Name: fmt.Sprintf("fragments/op %x inside a message", op), Send: join(raw(opText, []byte("a")), raw(fin|op, []byte("b"))), Close: 1002},
			Case{Name: fmt.Sprintf("fragments/unfinished op %x inside a message", op), Send: join(raw(opText, []byte("a")), raw(op, []byte("b"))), Close: 1002})
	}
	long := filler(min(limits.Message, 64*(limits.Fragments-1)))
	var small []byte
	for i := 0; i < len(long); i += 64 {
		bits := byte(opContinue)
		if i == 0 {
			bits = opBinary
		}
		small = append(small, raw(bits, long[i:min(i+64, len(long))])...)
	}
	small = append(small, raw(fin|opContinue, nil)...)
	pinged := join(raw(opText, []byte("a")), frame(opPing, []byte("1")), raw(opContinue, []byte("b")),
		frame(opPing, []byte("2")), frame(opPong, []byte("3")), raw(fin|opContinue, []byte("c")))
	return append(all,
		Case{Name: "fragments/continuation of nothing", Send: raw(fin|opContinue, []byte("x")), Close: 1002},
		Case{Name: "fragments/unfinished continuation of nothing", Send: raw(opContinue, []byte("x")), Close: 1002},
		Case{Name: "fragments/continuation after a message", Send: join(text("whole"), raw(fin|opContinue, nil)), Want: echoes(opText, []byte("whole")), Close: 1002},
		Case{Name: "fragments/continuation after a message in fragments", Send: join(parts(opText, "a", "b"), raw(opContinue, nil)), Want: echoes(opText, []byte("ab")), Close: 1002},
		Case{Name: "fragments/of 64 bytes", Send: small, Want: echoes(opBinary, long)},
		Case{Name: "fragments/two messages", Send: join(parts(opText, "a", "b"), parts(opBinary, "c", "d")),
			Want: []Message{{wire.OpText, []byte("ab")}, {wire.OpBinary, []byte("cd")}}},
		Case{Name: "fragments/pings between are answered first", Send: pinged,
			Want: []Message{{wire.OpPong, []byte("1")}, {wire.OpPong, []byte("2")}, {wire.OpText, []byte("abc")}}},
		Case{Name: "fragments/close between", Send: join(raw(opText, []byte("a")), frame(opClose, closeBody(1001, "")), raw(fin|opContinue, []byte("b"))), Close: 1001},
	)
}

func limitCases(limits wire.Limits) []Case {
	over := limits.Message + 1
	empty := bytes.Repeat(raw(opContinue, nil), limits.Fragments)
	half := filler(limits.Message/2 + 1)
	return []Case{
		{Name: "limits/one byte too many", Send: frame(opBinary, filler(over)), Close: proto.CloseTooBig},
		{Name: "limits/one byte too many, only announced", Send: masked(fin|opBinary, wstest.Length(over), wstest.Mask, []byte{1}), Close: proto.CloseTooBig},
		{Name: "limits/2^40 bytes announced", Send: masked(fin|opBinary, length64(1<<40), wstest.Mask, []byte{1}), Close: proto.CloseTooBig},
		{Name: "limits/2^63-1 bytes announced", Send: masked(fin|opBinary, length64(1<<63-1), wstest.Mask, []byte{1}), Close: proto.CloseTooBig},
		{Name: "limits/2^32 bytes announced", Send: masked(opText, length64(1<<32), wstest.Mask, []byte{'a'}), Close: proto.CloseTooBig},
		{Name: "limits/too many bytes in two fragments", Send: join(raw(opText, half), raw(fin|opContinue, half)), Close: proto.CloseTooBig},
		{Name: "limits/too many bytes announced by a fragment", Send: join(raw(opText, half), masked(opContinue, length64(1<<62), wstest.Mask, nil)), Close: proto.CloseTooBig},
		{Name: "limits/too many empty fragments", Send: join(raw(opText, nil), empty), Close: proto.ClosePolicy},
	}
}
