package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a TLS certificate that is stored in two files. When the files change, it reads
// them again. So a renewed certificate needs no restart. It is safe for concurrent use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex // guards the fields below
	current *tls.Certificate
	changed time.Time // modification time of the newer file, when current was read
	checked time.Time // when the files were last checked for changes
}

// checkEvery is the shortest time between two checks of the files.
const checkEvery = 10 * time.Second

func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, // a WebSocket begins with an HTTP/1.1 request
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if time.Since(c.checked) > checkEvery && !c.modified().Equal(c.changed) {
				if err := c.read(); err != nil {
					c.log.Warn("cannot read the changed https certificate; the old one stays in use", "error", err)
				}
			}
			return c.current, nil
		},
	}
}

// read reads the files. The caller must hold mu, or be the only user of c.
func (c *certificate) read() error {
	c.checked = time.Now()
	changed := c.modified()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("--https-cert, --https-key: %w", err)
	}
	c.current, c.changed = &pair, changed
	return nil
}

// modified returns the modification time of the newer of the two files.
func (c *certificate) modified() (newest time.Time) {
	for _, path := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}
