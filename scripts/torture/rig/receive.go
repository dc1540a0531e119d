//go:build linux

package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Consumer is the name of the consumer that the room service makes for an application.
const Consumer = "torture"

// receiver is a listener to which the room service posts events. It has its own TLS certificate.
type receiver struct {
	listener net.Listener
	cert     tls.Certificate
	pem      string // file with the certificate
	secret   string // file with the secret that signs the posts
}

// openReceiver listens at an address that all processes of the rig can reach.
func (r *Rig) openReceiver() (err error) {
	host := "127.0.0.1"
	if r.net.own {
		host = "10.77.0.1" // the address of the network bridge, see network.open
	}
	h := receiver{pem: filepath.Join(r.cfg.Dir, "receiver.pem"), secret: filepath.Join(r.cfg.Dir, "webhook-secret")}
	if h.listener, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		return fmt.Errorf("listen for posts: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "torture"}, IPAddresses: []net.IP{net.ParseIP(host)},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0), // a long time, because faults set some clocks wrong
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	h.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if err := os.WriteFile(h.pem, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	if err := os.WriteFile(h.secret, []byte(Token), 0o600); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	r.receiver = h
	return nil
}

// Receive starts a server in which h serves the posts of the room service. The caller closes it.
func (r *Rig) Receive(h http.Handler) *http.Server {
	server := &http.Server{
		Handler: h, ReadTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{r.receiver.cert}, MinVersion: tls.VersionTLS12},
	}
	go server.ServeTLS(r.receiver.listener, "", "")
	return server
}

// tellFlags returns the flags that make a room service send events to applications.
func (r *Rig) tellFlags() []string {
	return []string{"--webhook", "https://" + r.receiver.listener.Addr().String() + "/hook", "--webhook-secret-file", r.receiver.secret,
		"--events-consumer", Consumer}
}

// trust returns the environment variable that makes a process trust the receiver's certificate.
func (r *Rig) trust() string { return "SSL_CERT_FILE=" + r.receiver.pem }
