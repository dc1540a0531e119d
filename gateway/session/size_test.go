package session

import (
	"testing"
	"unsafe"
)

// An idle session needs memory for this struct and for the text of its id. So the size of the
// struct determines the memory of a million sessions.
func TestSessionIsSmall(t *testing.T) {
	const most = 176 // bytes
	if got := unsafe.Sizeof(session{}); got > most {
		t.Errorf("a session has %d bytes, want at most %d", got, most)
	}
}
