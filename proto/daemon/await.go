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

// Await waits until a connection to NATS can be opened, and closes the connection again. While
// no NATS server runs, Await logs one warning and tries again until ctx ends. If the server
// refuses this client, for example because of a wrong password, Await returns the error at once.
func Await(ctx context.Context, dial Dialer, where, name string, log *slog.Logger) error {
	said := false
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		nc, err := dial(name)
		if err == nil {
			nc.Close()
			if said {
				log.Info("connected to nats", "nats", where)
			}
			return nil
		}
		if !worthWaiting(err) {
			return fmt.Errorf("connect to NATS at %s: %w", where, err)
		}
		if !said {
			said = true
			log.Warn("waiting for nats", "nats", where, "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connect to NATS at %s: %w", where, err)
		case <-time.After(wait):
		}
	}
}

// worthWaiting reports whether err says that no server runs yet. Then a later attempt may succeed.
func worthWaiting(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF)
}
