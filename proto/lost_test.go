package proto_test

import (
	"testing"
	"time"

	"roomcast/proto"
)

// FuzzParseLost checks that each report that ParseLost accepts can be written and read again.
func FuzzParseLost(f *testing.F) {
	f.Add(proto.Lost{Room: proto.MustRoom("a.b"), Epoch: "e1", Seq: 20, Stream: 31, At: time.UnixMilli(1_795_000_000_001)}.JSON())
	f.Add([]byte(`{"room":"lobby","epoch":"","seq":1}`))
	f.Add([]byte(`{"room":" ","epoch":"e","seq":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := proto.ParseLost(b)
		if err != nil {
			return
		}
		if l.Epoch == "" || l.Seq == 0 || l.Room.IsZero() {
			t.Fatalf("read %+v", l)
		}
		if again, err := proto.ParseLost(l.JSON()); err != nil || again != l {
			t.Fatalf("got %+v, %v; want %+v", again, err, l)
		}
	})
}
