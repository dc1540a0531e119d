package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// lockDataDir makes the data directory if it does not exist, and locks it for this process. Two
// servers in the same directory would damage the log. The lock ends when the file is closed or
// the process ends.
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
			return nil, fmt.Errorf("--data-dir: %s is in use by another gateway; stop that gateway, or choose another directory", dir)
		}
		return nil, fmt.Errorf("--data-dir: lock %s: %w", dir, err)
	}
	return f, nil
}

var errLocked = errors.New("locked by another process")
