package session

import (
	"testing"
	"unsafe"
)

// An idle session consists of this struct and the text of its id. So the struct decides the
// memory of a million sessions.
func TestSessionIsSmall(t *testing.T) {
	const most = 176 // bytes
	if got := unsafe.Sizeof(session{}); got > most {
		t.Errorf("a session has %d bytes, want at most %d", got, most)
	}
}
