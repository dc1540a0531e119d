package loop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"roomcast/gateway/loop"
)

func TestTLSAndCertificateReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile, 1)
	certificate, err := loop.Certificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	cfg.TLS = &tls.Config{GetCertificate: certificate}
	h := &script{}
	addr := serve(t, cfg, h)
	dialTLS := func() (*tls.Conn, int64) {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}

	first, serial := dialTLS()
	if serial != 1 {
		t.Fatalf("got certificate %d, want 1", serial)
	}
	echo(t, first, "over TLS")

	// Who does not speak TLS, or nothing at all, gets nowhere and hurts nobody.
	mute, plain := dial(t, addr), dial(t, addr)
	io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n")
	io.ReadAll(plain)
	mute.Close()

	writeCertificate(t, certFile, keyFile, 2)
	eventually(t, "the new certificate is shown", func() bool { _, serial := dialTLS(); return serial == 2 })
	os.WriteFile(certFile, []byte("half written"), 0o600)
	if _, serial := dialTLS(); serial != 2 {
		t.Fatalf("got certificate %d, want the last good one, 2", serial)
	}
	echo(t, first, "still over TLS")

	if _, err := loop.Certificate(certFile, keyFile); err == nil {
		t.Fatal("a broken certificate file was taken")
	}
}

func writeCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		keyFile:  {Type: "PRIVATE KEY", Bytes: pkcs8},
		certFile: {Type: "CERTIFICATE", Bytes: der},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
