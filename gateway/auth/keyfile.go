package auth

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A keyFile is a file with keys. It reads the file again when it has changed, so a changed
// key needs no restart. It is safe for concurrent use.
type keyFile struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex // guards what follows
	current []key
	changed time.Time // of the file, when it was read
	checked time.Time // of the last look at the file
}

// lookEvery is the minimal time between two looks at a key file.
const lookEvery = time.Second

func newKeyFile(path string, log *slog.Logger) (*keyFile, error) {
	f := &keyFile{path: path, log: log}
	return f, f.read()
}

// keys implements keySource. If the changed file cannot be used, the old keys remain.
func (f *keyFile) keys() ([]key, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < lookEvery {
		return f.current, true
	}
	f.checked = time.Now()
	if info, err := os.Stat(f.path); err == nil && !info.ModTime().Equal(f.changed) {
		f.changed = info.ModTime() // a bad file is logged once
		if err := f.read(); err != nil {
			f.log.Warn("cannot read the changed key file; the old keys stay in use", "error", err)
		}
	}
	return f.current, true
}

// missed implements keySource: a file is read when it changes, not on demand.
func (f *keyFile) missed() bool { return false }

// read reads the file. The caller holds mu, or no other goroutine has f.
func (f *keyFile) read() error {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return err // an *fs.PathError, which names the file
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	keys, err := parseKeys(b)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.current, f.changed, f.checked = keys, info.ModTime(), time.Now()
	return nil
}
