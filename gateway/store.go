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

// store watches whether the log of the standalone form can be written. nats-server keeps
// the first write error of a stream for as long as it runs: the log can be read, but
// nothing more is stored, even when the cause has passed. Once the directory can be
// written again, the store therefore starts NATS anew.
//
// A full disk is no failure: the log stays readable, and the store waits for room. Any
// other cause has patience to pass. After that, or if starting NATS again does not help,
// the process must end so that its supervisor starts it again.
type store struct {
	dir     string
	healthy func() error // nil, or why the log cannot be written
	restart func() error // starts NATS again on the same data
	log     *slog.Logger

	every    time.Duration // between two looks
	patience time.Duration // for a directory that cannot be written, unless it is full
	attempts int           // restarts that do not help for as long as patience
}

func newStore(dir string, healthy, restart func() error, log *slog.Logger) *store {
	return &store{
		dir: dir, healthy: healthy, restart: restart, log: log,
		every: time.Second, patience: time.Minute, attempts: 3,
	}
}

// watch returns nil when ctx has ended, or an error if the log cannot be written any more.
func (s *store) watch(ctx context.Context) error {
	look := time.NewTicker(s.every)
	defer look.Stop()
	var t trouble
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		err := s.healthy()
		if err == nil {
			t.pass(time.Now(), s.patience)
			continue
		}
		if t.since.IsZero() {
			t.since = time.Now()
			continue // what one look sees may pass
		}
		if !t.told {
			t.told = true
			s.log.Error("the log cannot be written; rooms can still be read", "error", err)
		}
		switch cause := tryWriting(s.dir); {
		case full(cause):
			t.since = time.Now()
			if !t.full {
				t.full = true
				s.log.Error("the disk of the log is full; messages are stored again when there is room", "dir", s.dir, "error", cause)
			}
		case cause != nil && time.Since(t.since) > s.patience:
			return fmt.Errorf("the log in %s cannot be written: %w", s.dir, cause)
		case cause != nil:
		case t.restarts >= s.attempts:
			return fmt.Errorf("the log in %s cannot be written, and starting NATS again has not helped %d times: %w", s.dir, t.restarts, err)
		default:
			if err := s.restart(); err != nil {
				return fmt.Errorf("start NATS again after the log could not be written: %w", err)
			}
			s.log.Warn("NATS has been started again, since the log could not be written", "dir", s.dir)
			t = trouble{restarts: t.restarts + 1, restarted: time.Now()}
		}
	}
}

// trouble is what watch remembers between two looks.
type trouble struct {
	since      time.Time // when the log was first seen not to be written; zero: it is
	told, full bool      // the operator knows
	restarts   int       // that have not been followed by patience of health
	restarted  time.Time
}

// pass notes that the log can be written.
func (t *trouble) pass(now time.Time, patience time.Duration) {
	if now.Sub(t.restarted) > patience {
		t.restarts = 0
	}
	t.since, t.told, t.full = time.Time{}, false, false
}

// room is how many bytes must fit before a full disk counts as having room: what a NATS
// server that starts writes, and some messages.
const room = 4 << 20

// tryWriting returns why nothing can be written in dir, nil if room bytes can.
func tryWriting(dir string) (err error) {
	path := filepath.Join(dir, "room")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, room))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}

// full reports whether there is nothing wrong with the disk but that it has no room.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
