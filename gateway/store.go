package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// store checks that NATS can write the log of the standalone form. After a write error,
// nats-server stores nothing in the affected stream until it is restarted, even if the cause is
// gone. Reading still works. When the data directory can be written again, store restarts NATS.
//
// If the disk is full, store waits for free space as long as necessary. If there is another
// cause, store waits until the cause is gone, but not longer than patience. After that time, or
// if restarts do not help, watch returns an error. Then the process ends, and its supervisor can
// start it again. One goroutine owns a store.
type store struct {
	dir     string
	healthy func() error // returns nil, or why the log cannot be written; see errSlow
	restart func() error // restarts NATS with the same data
	log     *slog.Logger

	every    time.Duration // time between two checks
	patience time.Duration // how long writing may fail for another cause than a full disk, and how long NATS may be slow
	attempts int           // how many restarts watch tries; see trouble
}

func newStore(dir string, healthy, restart func() error, log *slog.Logger) *store {
	return &store{
		dir: dir, healthy: healthy, restart: restart, log: log,
		every: time.Second, patience: time.Minute, attempts: 3,
	}
}

// watch returns nil when ctx ends. It returns an error if NATS can no longer write the log.
func (s *store) watch(ctx context.Context) error {
	check := time.NewTicker(s.every)
	defer check.Stop()
	var t trouble
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-check.C:
		}
		err := s.healthy()
		if err == nil {
			t.pass(time.Now(), s.patience)
			continue
		}
		if t.since.IsZero() {
			t.since = time.Now()
			continue // the problem may be gone at the next check
		}
		if errors.Is(err, errSlow) && time.Since(t.since) < s.patience {
			continue // a restart would interrupt NATS while it makes a stream
		}
		if !t.logged {
			t.logged = true
			s.log.Error("the log cannot be written; rooms can still be read", "error", err)
		}
		switch cause := tryWriting(s.dir); {
		case full(cause):
			t.since = time.Now()
			if !t.full {
				t.full = true
				s.log.Error("the disk of the log is full; messages can be stored again when there is space", "dir", s.dir, "error", cause)
			}
		case cause != nil && time.Since(t.since) > s.patience:
			return fmt.Errorf("the log in %s cannot be written: %w", s.dir, cause)
		case cause != nil:
		case t.restarts >= s.attempts:
			return fmt.Errorf("the log in %s cannot be written, and %d restarts of NATS did not help: %w", s.dir, t.restarts, err)
		default:
			if err := s.restart(); err != nil {
				return fmt.Errorf("restart NATS after a write error of the log: %w", err)
			}
			s.log.Warn("restarted NATS after a write error of the log", "dir", s.dir)
			t = trouble{restarts: t.restarts + 1, restarted: time.Now()}
		}
	}
}

// trouble is the state of watch between two checks.
type trouble struct {
	since     time.Time // time of the first failed check; zero = the log can be written
	logged    bool      // the problem has been logged
	full      bool      // it has been logged that the disk is full
	restarts  int       // restarts so far; 0 again when the log could be written for the time patience
	restarted time.Time // time of the last restart; zero = never
}

// pass records a check that found no problem.
func (t *trouble) pass(now time.Time, patience time.Duration) {
	if now.Sub(t.restarted) > patience {
		t.restarts = 0
	}
	t.since, t.logged, t.full = time.Time{}, false, false
}

// space is how many bytes must be free on a disk. With less, the disk counts as full. When a NATS
// server starts, it writes some of these bytes. The rest is for messages.
const space = 4 << 20

// tryWriting returns an error if it cannot write space bytes to a file in dir.
func tryWriting(dir string) (err error) {
	path := filepath.Join(dir, "space")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, space))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}

// full reports whether err means that the disk has no free space.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
