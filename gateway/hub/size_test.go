package hub

import (
	"testing"
	"unsafe"
)

// A hub keeps a conn for every connection, also for idle ones. So its size matters.
func TestConnIsSmall(t *testing.T) {
	const most = 32 // bytes
	if got := unsafe.Sizeof(conn{}); got > most {
		t.Errorf("a conn has %d bytes, want at most %d", got, most)
	}
}
