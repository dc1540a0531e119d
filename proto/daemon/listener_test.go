package daemon

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// A flood of connections to the listener for operators uses only a few descriptors. After the
// flood, the listener answers again.
func TestOpsListenerLimitsConnections(t *testing.T) {
	ops, err := Ops{Listen: "127.0.0.1:0"}.Serve(slog.New(slog.DiscardHandler), NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer ops.Close()
	var flood []net.Conn
	closed := 0
	for range 2 * maxOpsConns {
		c, err := net.Dial("tcp", ops.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		flood = append(flood, c)
	}
	for _, c := range flood[maxOpsConns:] {
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); err == io.EOF {
			closed++
		}
	}
	if closed != maxOpsConns {
		t.Errorf("the listener closed %d connections above the limit at once, want %d", closed, maxOpsConns)
	}
	for _, c := range flood {
		c.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + ops.Addr().String() + "/healthz")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the listener does not answer operators after the flood: %v", err)
		}
	}
}
