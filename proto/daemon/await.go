package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// Await connects once and hangs up, so that what follows finds a NATS that is there.
// Where there is none it says so once and goes on trying until ctx ends. A refusal,
// such as a wrong password, is returned at once: waiting would not mend it.
func Await(ctx context.Context, dial Dialer, where, name string, log *slog.Logger) error {
	said := false
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		nc, err := dial(name)
		if err == nil {
			nc.Close()
			if said {
				log.Info("nats is there", "nats", where)
			}
			return nil
		}
		if !worthWaiting(err) {
			return fmt.Errorf("connect to NATS at %s: %w", where, err)
		}
		if !said {
			said = true
			log.Warn("waiting for nats, which is not there yet", "nats", where, "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connect to NATS at %s: %w", where, err)
		case <-time.After(wait):
		}
	}
}

// worthWaiting reports whether err is of a NATS that is not up yet rather than of one
// that says no.
func worthWaiting(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF)
}
