package main

import (
	"log/slog"
	"testing"

	"roomcast/roomsvc/stream"
)

// A new log takes half of the disk's free space at most, and keeps that limit.
func TestLogTakesHalfOfTheFreeDisk(t *testing.T) {
	e := defaultStandalone()
	e.DataDir, e.Monitor = t.TempDir(), "off"
	limit := int64(0)
	for start := range 2 {
		inside, err := e.start(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		got, err := inside.historyBytes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		most := inside.server.Load().JetStreamConfig().MaxStore
		switch {
		case start == 0 && (got < most/2 || got >= most):
			t.Errorf("the limit of a new log is %d bytes, NATS stores at most %d", got, most)
		case start == 0:
			limit = got / 2 // as if the disk had been fuller then
			nc, err := inside.dialer(userService)("test")
			if err != nil {
				t.Fatal(err)
			}
			cfg := stream.DefaultConfig()
			cfg.MaxBytes = limit
			if err := stream.Ensure(t.Context(), nc, cfg); err != nil {
				t.Fatal(err)
			}
			nc.Close()
		case got != limit:
			t.Errorf("the limit of the log is %d bytes after a restart, want %d", got, limit)
		}
		inside.stop()
	}
}
