package wiretest

import (
	"bytes"
	"compress/flate"

	"roomcast/gateway/wire"
	"roomcast/proto"
)

// packed compresses p in the form that RFC 7692, 7.2.1, requires.
func packed(p []byte, level int) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, level)
	w.Write(p)
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

func deflateCases(limits wire.Limits) []Case {
	hello := []byte("Hello, hello, hello, hello!")
	zip := packed(hello, 9)
	big := bytes.Repeat([]byte("roomcast "), limits.Message/9)
	noise := make([]byte, limits.Message) // xorshift makes bytes that cannot be compressed
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		noise[i] = byte(x)
	}
	bomb := packed(make([]byte, 4*limits.Message+1<<20), 9) // compressed, it has a thousandth of this size
	return []Case{
		{Name: "deflate/text", Send: raw(fin|rsv1|opText, zip), Want: echoes(opText, hello)},
		{Name: "deflate/binary", Send: raw(fin|rsv1|opBinary, zip), Want: echoes(opBinary, hello)},
		{Name: "deflate/example of RFC 7692", Send: raw(fin|rsv1|opText, []byte{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}), Want: echoes(opText, []byte("Hello"))},
		{Name: "deflate/stored block of RFC 7692", Send: raw(fin|rsv1|opText, []byte{0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00}), Want: echoes(opText, []byte("Hello"))},
		{Name: "deflate/two blocks of RFC 7692", Send: raw(fin|rsv1|opText, []byte{0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00}), Want: echoes(opText, []byte("Hello"))},
		{Name: "deflate/last block of RFC 7692", Send: raw(fin|rsv1|opText, []byte{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}), Want: echoes(opText, []byte("Hello"))},
		{Name: "deflate/empty", Send: raw(fin|rsv1|opText, []byte{0x00}), Want: echoes(opText, nil)},
		{Name: "deflate/plain message among compressed ones", Send: join(raw(fin|rsv1|opText, zip), text("plain"), raw(fin|rsv1|opText, zip)),
			Want: []Message{{wire.OpText, hello}, {wire.OpText, []byte("plain")}, {wire.OpText, hello}}},
		{Name: "deflate/in fragments", Send: join(raw(rsv1|opText, zip[:3]), raw(opContinue, nil), frame(opPing, nil), raw(fin|opContinue, zip[3:])),
			Want: []Message{{wire.OpPong, nil}, {wire.OpText, hello}}},
		{Name: "deflate/as long as allowed", Send: raw(fin|rsv1|opText, packed(big, 1)), Want: echoes(opText, big)},
		{Name: "deflate/what cannot be compressed", Send: raw(fin|rsv1|opBinary, packed(noise, 1)), Want: echoes(opBinary, noise)},
		{Name: "deflate/one byte too many", Send: raw(fin|rsv1|opText, packed(filler(limits.Message+1), 1)), Close: proto.CloseTooBig},
		{Name: "deflate/bomb", Send: raw(fin|rsv1|opText, bomb), Close: proto.CloseTooBig},
		{Name: "deflate/not UTF-8", Send: raw(fin|rsv1|opText, packed([]byte("\xC0\xAF"), 1)), Close: proto.CloseInvalidData},
		{Name: "deflate/not deflate", Send: raw(fin|rsv1|opText, []byte{0xFF, 0xFF, 0xFF}), Close: proto.CloseInvalidData},
		{Name: "deflate/cut off", Send: raw(fin|rsv1|opText, packed(filler(5000), 9)[:40]), Close: proto.CloseInvalidData},
		{Name: "deflate/bit on a continuation", Send: join(raw(rsv1|opText, zip[:3]), raw(fin|rsv1|opContinue, zip[3:])), Close: 1002},
		{Name: "deflate/bit on a ping", Send: raw(fin|rsv1|opPing, nil), Close: 1002},
		{Name: "deflate/bit on a close", Send: raw(fin|rsv1|opClose, nil), Close: 1002},
		{Name: "deflate/another bit too", Send: raw(fin|rsv1|rsv2|opText, zip), Close: 1002},
		{Name: "deflate/only another bit", Send: raw(fin|rsv2|opText, zip), Close: 1002},
	}
}
