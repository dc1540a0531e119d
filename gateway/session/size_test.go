package session

import (
	"testing"
	"unsafe"
)

// An idle session needs memory for little more than this struct and the text of its id. A gateway
// may have a million sessions, so every byte of the struct counts.
func TestSessionIsSmall(t *testing.T) {
	const most = 176 // bytes
	if got := unsafe.Sizeof(session{}); got > most {
		t.Errorf("a session has %d bytes, want at most %d", got, most)
	}
}
