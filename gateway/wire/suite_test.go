package wire_test

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
	"roomcast/gateway/wire/wiretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var limits = wire.Limits{Message: 64 << 10, Fragments: 2000}

// TestSuite runs the protocol suite against a real listener, for each backend of package loop.
func TestSuite(t *testing.T) {
	for _, b := range []struct {
		name     string
		portable bool
	}{{"native", false}, {"portable", true}} {
		t.Run(b.name, func(t *testing.T) {
			cfg := loop.DefaultConfig()
			cfg.Address, cfg.Loops, cfg.Portable = "127.0.0.1:0", 1, b.portable
			cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
			loops, addr, err := loop.Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				done <- loops[0].Run(ctx, &wiretest.Echo{Loop: loops[0], Limits: limits, Deflate: true})
			}()
			wiretest.Run(t, wiretest.Target{Addr: addr.String(), Path: "/echo", Limits: limits, Deflate: true})
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}
