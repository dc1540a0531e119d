package auth

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// File contains the parsed content of a file. When the file has changed, it reads the file again.
// So a changed secret needs no restart. It is safe for concurrent use.
type File[T any] struct {
	path  string
	parse func([]byte) (T, error)
	log   *slog.Logger

	mu      sync.Mutex // guards the fields below
	current T
	changed time.Time // modification time of the file, when it was read
	checked time.Time // when the file was last checked for changes
}

// lookEvery is the shortest time between two checks of a file.
const lookEvery = time.Second

// OpenFile reads a file and parses it with parse. Its errors name the file.
func OpenFile[T any](path string, parse func([]byte) (T, error), log *slog.Logger) (*File[T], error) {
	f := &File[T]{path: path, parse: parse, log: log}
	return f, f.read()
}

// Get returns the content. If the file has changed but cannot be read or parsed, Get returns the
// old content.
func (f *File[T]) Get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < lookEvery {
		return f.current
	}
	f.checked = time.Now()
	if info, err := os.Stat(f.path); err == nil && !info.ModTime().Equal(f.changed) {
		f.changed = info.ModTime() // so that a bad file is logged once
		if err := f.read(); err != nil {
			f.log.Warn("cannot read the changed file; its old content stays in use", "error", err)
		}
	}
	return f.current
}

// read reads the file. The caller must hold mu, or be the only user of f.
func (f *File[T]) read() error {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return err // this is an *fs.PathError, which names the file
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	content, err := f.parse(b)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.current, f.changed, f.checked = content, info.ModTime(), time.Now()
	return nil
}

// keyFile is a file that contains keys.
type keyFile struct{ *File[[]key] }

func newKeyFile(path string, log *slog.Logger) (keyFile, error) {
	f, err := OpenFile(path, parseKeys, log)
	return keyFile{f}, err
}

// keys implements keySource.
func (f keyFile) keys() ([]key, bool) { return f.Get(), true }

// missed implements keySource. A request for newer keys has no effect, because a file is read
// only when it changes.
func (f keyFile) missed() bool { return false }
