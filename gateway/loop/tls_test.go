package loop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roomcast/gateway/loop"
)

func TestTLSIsServedAndOtherClientsAreClosed(t *testing.T) {
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}
	addr := serve(t, cfg, &script{})

	first, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	echo(t, first, "over TLS")

	// The loop closes a client that does not speak TLS and a client that sends nothing. Other
	// connections continue. A client that speaks plain HTTP receives an explanation.
	mute, plain, other := dial(t, addr), dial(t, addr), dial(t, addr)
	io.WriteString(plain, "GET / HTTP/1.1\r\nCookie: "+strings.Repeat("x", 8000)+"\r\n\r\n")
	if answer, err := io.ReadAll(plain); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 400 ") || !strings.Contains(string(answer), "https") {
		t.Errorf("plain HTTP: got %q, %v, want 400 and the reason", answer, err)
	}
	io.WriteString(other, "hello\r\n")
	io.Copy(io.Discard, other)
	mute.Close()
	echo(t, first, "still over TLS")
}

func newCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// An idle connection that has sent one large message before keeps no large buffer.
func TestIdleTLSConnectionsKeepNoLargeBuffer(t *testing.T) {
	const conns, message = 200, 61 << 10
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}}
	h := &script{}
	var whole atomic.Int64
	h.received = func(id loop.ID, p []byte) int {
		if len(p) < message {
			return 0
		}
		whole.Add(1)
		return len(p)
	}
	addr := serve(t, cfg, h)
	var clients []*tls.Conn
	for range conns {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	before := liveHeap()
	body := make([]byte, message)
	for _, c := range clients {
		if _, err := c.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all received", func() bool { return whole.Load() == conns })
	var each int64
	eventually(t, "the buffers given back", func() bool {
		each = (liveHeap() - before) / conns
		return each < 48<<10 // crypto/tls keeps one record buffer for each direction
	})
	t.Logf("%d bytes of heap a connection, both sides", each)
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // frees the buffers that the first collection took from the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
