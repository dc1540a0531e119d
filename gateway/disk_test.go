package main

import (
	"log/slog"
	"testing"

	"roomcast/roomsvc/stream"
)

// A new log gets a limit of at most half of the disk's free space, and keeps this limit.
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
			limit = got / 2 // as if the disk had been fuller when the log was made
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

// The limit of an existing log may be greater than the limit that NATS would choose now. For
// example, the disk is fuller, or is another disk. The settings of the log must still be
// changeable.
func TestSettingsOfALogOnAFullDiskCanBeChanged(t *testing.T) {
	e := defaultStandalone()
	e.DataDir, e.Monitor = t.TempDir(), "off"
	inside, err := e.start(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.stop()
	most := inside.server.Load().JetStreamConfig().MaxStore
	halt(inside.server.Load())
	opts, err := inside.form.options()
	if err != nil {
		t.Fatal(err)
	}
	opts.JetStreamMaxStore = 4 * most // as if the disk had been larger when the log was made
	if err := inside.run(opts); err != nil {
		t.Fatal(err)
	}
	cfg := stream.DefaultConfig()
	cfg.MaxBytes, cfg.Log = 2*most, slog.New(slog.DiscardHandler)
	ensure := func() {
		t.Helper()
		nc, err := inside.dialer(userService)("test")
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if err := stream.Ensure(t.Context(), nc, cfg); err != nil {
			t.Fatal(err)
		}
	}
	ensure()
	if err := inside.restart(); err != nil {
		t.Fatal(err)
	}
	cfg.HistoryAge, cfg.Change = 2*cfg.HistoryAge, func(string) bool { return true }
	ensure()
}
