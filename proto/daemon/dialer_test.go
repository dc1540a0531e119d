package daemon

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// After the close, the peer receives only bytes that had arrived before.
func TestClosedConnectionDeliversNothingMore(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := newDialer().Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	// The peer does not read, so the buffers at both ends fill up.
	written := 0
	for block := make([]byte, 64<<10); ; {
		conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := conn.Write(block)
		written += n
		if err != nil {
			break
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	received, err := io.Copy(io.Discard, peer)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer read %d bytes and then got %v, want a reset", received, err)
	}
	if received >= int64(written) {
		t.Errorf("the peer received all of %d bytes", written)
	}
}
