package web_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Behind haproxy, a browser uses HTTP/2 for the page and for the WebSocket (RFC 8441). haproxy
// sends the gateway an HTTP/1.1 handshake instead, on a pooled connection.
func TestPageWorksOverHTTP2(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := ln.Addr().String()
	ln.Close()

	// haproxy uses the certificate of a test server of the standard library.
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	defer lender.Close()
	pair := lender.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var cert bytes.Buffer
	pem.Encode(&cert, &pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	pem.Encode(&cert, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	dir := t.TempDir()
	conf := fmt.Sprintf(`
defaults
  mode http
  option forwardfor
  timeout connect 5s
  timeout client 50s
  timeout server 50s
listen front
  bind %s ssl crt %s/cert.pem alpn h2
  http-reuse always
  server gateway %s
`, front, dir, g.addr)
	for name, text := range map[string][]byte{"cert.pem": cert.Bytes(), "conf": []byte(conf)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proxy := exec.Command("haproxy", "-db", "-f", filepath.Join(dir, "conf"))
	proxy.Stdout, proxy.Stderr = t.Output(), t.Output()
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Process.Kill(); proxy.Wait() })
	until(t, "haproxy to serve", func() bool {
		conn, err := net.Dial("tcp", front)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})

	ann, bob := openTab(t).openAt("https://"+front+"/room/h2/"), openTab(t).openAt("https://"+front+"/?group=h2")
	ann.say("over HTTP/2")
	bob.shows("over HTTP/2")
	if got := eval[string](bob, `performance.getEntriesByType("navigation")[0].nextHopProtocol`); got != "h2" {
		t.Errorf("the page came over %s, want h2", got)
	}
}
