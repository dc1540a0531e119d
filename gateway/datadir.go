package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// lockDataDir makes the data directory if there is none and keeps it for this
// process: two servers writing one log would spoil it. The lock ends with the file's
// closing, however the process ends.
func lockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	if err := lock(f); err != nil {
		f.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("--data-dir: %s is in use by another gateway; stop that one, or give this one a directory of its own", dir)
		}
		return nil, fmt.Errorf("--data-dir: lock %s: %w", dir, err)
	}
	return f, nil
}

var errLocked = errors.New("locked by another process")
