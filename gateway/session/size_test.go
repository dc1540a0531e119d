package session

import (
	"testing"
	"unsafe"
)

// An idle session costs what its struct costs and the text of its id, and the struct
// decides the memory of a million of them.
func TestSessionIsSmall(t *testing.T) {
	const most = 176 // bytes
	if got := unsafe.Sizeof(session{}); got > most {
		t.Errorf("a session has %d bytes, want at most %d", got, most)
	}
}
