package wstest_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"roomcast/gateway/wire/wstest"
)

func TestFrameOfAServerIsReturnedWhenItIsComplete(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 1 << 10, 1<<16 - 1, 1 << 16, 1 << 17} {
		body := []byte(strings.Repeat("x", size))
		whole := ws.MustCompileFrame(ws.NewTextFrame(body))
		op, payload, used := wstest.Next(append(whole, "next"...))
		if op != wstest.Text || !bytes.Equal(payload, body) || used != len(whole) {
			t.Errorf("%d bytes: got op %d, %d bytes, used %d", size, op, len(payload), used)
		}
		for cut := range min(len(whole), 200) {
			if _, _, used := wstest.Next(whole[:cut]); used != 0 {
				t.Errorf("%d of %d bytes: got a frame", cut, len(whole))
			}
		}
	}
}

func TestMaskedFrameIsReadByAnotherLibrary(t *testing.T) {
	for _, size := range []int{0, 3, 125, 126, 1 << 16} {
		body := []byte(strings.Repeat("y", size))
		frame := bytes.NewBuffer(wstest.AppendMasked(nil, wstest.Fin|wstest.Text, body))
		h, err := ws.ReadHeader(frame)
		if err != nil {
			t.Fatal(err)
		}
		payload := frame.Bytes()
		ws.Cipher(payload, h.Mask, 0)
		if h.OpCode != ws.OpText || h.Length != int64(size) || !bytes.Equal(payload, body) {
			t.Errorf("%d bytes: got %d bytes of opcode %d", size, len(payload), h.OpCode)
		}
	}
}

func TestReadAndNextAgree(t *testing.T) {
	for _, size := range []int{0, 125, 126, 1 << 16} {
		frame := append(wstest.AppendHeader(nil, wstest.Fin|wstest.Binary, size), make([]byte, size)...)
		first, payload, err := wstest.Read(bytes.NewReader(frame))
		if err != nil || first != wstest.Fin|wstest.Binary || len(payload) != size {
			t.Errorf("%d bytes: got %x, %d bytes, %v", size, first, len(payload), err)
		}
	}
}
