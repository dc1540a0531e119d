package session

import (
	"errors"
	"testing"

	"roomcast/proto"
)

// Every refusal has a close code. An error that is not a refusal is a defect: the client receives
// 1011, without details.
func TestEveryRefusalHasACloseCode(t *testing.T) {
	want := map[proto.Code]proto.CloseCode{
		proto.RoomClosed: 4100, proto.CodeBanned: 4102, proto.Forbidden: 4106, proto.Overloaded: 4002,
		proto.Unavailable: 4004, proto.TooLarge: 1009, proto.Internal: 1011,
	}
	for _, code := range proto.Codes {
		if want[code] == 0 {
			want[code] = 1008
		}
		if got := closeCode(code); got != want[code] {
			t.Errorf("the refusal %s closes with %d, want %d", code, got, want[code])
		}
	}
	if got := closeCode(refusalIn(errors.New("open /etc/secret: permission denied")).Code); got != 1011 {
		t.Errorf("an error that is not a refusal closes with %d, want 1011", got)
	}
	if !proto.CloseInternal.Reconnect() {
		t.Error("a client must reconnect after 1011")
	}
}
