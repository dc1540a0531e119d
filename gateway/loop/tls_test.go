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
	"testing"
	"time"

	"roomcast/gateway/loop"
)

func TestTLS(t *testing.T) {
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

	// Who does not speak TLS, or nothing at all, gets nowhere and hurts nobody.
	mute, plain := dial(t, addr), dial(t, addr)
	io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n")
	io.ReadAll(plain)
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
