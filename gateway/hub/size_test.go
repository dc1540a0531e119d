package hub

import (
	"testing"
	"unsafe"
)

// A hub keeps one conn for every connection, idle ones included.
func TestConnIsSmall(t *testing.T) {
	const most = 32 // bytes
	if got := unsafe.Sizeof(conn{}); got > most {
		t.Errorf("a conn has %d bytes, want at most %d", got, most)
	}
}
