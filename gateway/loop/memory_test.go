package loop_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
)

// The memory of TLS handshakes is bounded. When no memory is left and another peer begins a
// handshake, the loop closes the handshake of a silent peer.
func TestHandshakesAreBoundedByMemory(t *testing.T) {
	memory := limit.NewBudget(1 << 20)
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops, cfg.Memory = "127.0.0.1:0", 1, memory
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}
	addr := serve(t, cfg, &script{})
	var mute []net.Conn
	for range 100 {
		mute = append(mute, dial(t, addr))
	}
	eventually(t, "the handshakes to take half of the memory", func() bool {
		used := memory.Used(limit.Handshakes)
		return used > 400<<10 && used <= 1<<19
	})
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 4 * time.Second}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	echo(t, c, "over TLS")
	c.Close()
	for _, nc := range mute {
		nc.Close()
	}
	eventually(t, "the memory to be given back", func() bool {
		return memory.Used(limit.Handshakes) == 0 && memory.Used(limit.Queues) == 0
	})
}
