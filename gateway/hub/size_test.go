package hub

import (
	"testing"
	"unsafe"
)

// A hub keeps one conn for every connection, so its size is what an idle connection costs.
func TestConnIsSmall(t *testing.T) {
	const most = 32 // bytes
	if got := unsafe.Sizeof(conn{}); got > most {
		t.Errorf("a conn has %d bytes, want at most %d", got, most)
	}
}
