package loop_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"roomcast/gateway/loop"
)

// Peers that connect and send nothing do not keep TLS clients out.
func TestSilentPeersDoNotBlockHandshakes(t *testing.T) {
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}
	addr := serve(t, cfg, &script{})
	for range 1200 {
		dial(t, addr)
	}
	begun := time.Now()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 4 * time.Second}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("after %s: %v", time.Since(begun), err)
	}
	t.Cleanup(func() { c.Close() })
	echo(t, c, "over TLS")
}
