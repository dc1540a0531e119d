package loop

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// Certificate reads a certificate and its key, both PEM, and returns a
// tls.Config.GetCertificate that reads them again when the files change, so that
// they can be renewed without dropping a connection. While they cannot be read,
// or do not fit each other, the last good pair is shown.
func Certificate(certFile, keyFile string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	f := &certificateFiles{cert: certFile, key: keyFile}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f.get, nil
}

// certificateFiles are safe for concurrent use.
type certificateFiles struct {
	cert, key string // paths

	mu     sync.Mutex // guards what follows
	pair   *tls.Certificate
	states [2]fileState // of the files when they were last read
}

type fileState struct {
	changed time.Time
	size    int64
}

func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stat() != f.states {
		f.load() // the last good pair is better than none
	}
	return f.pair, nil
}

func (f *certificateFiles) load() error {
	states := f.stat()
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	f.pair, f.states = &pair, states
	return nil
}

func (f *certificateFiles) stat() (states [2]fileState) {
	for i, name := range []string{f.cert, f.key} {
		if info, err := os.Stat(name); err == nil {
			states[i] = fileState{info.ModTime(), info.Size()}
		}
	}
	return states
}
