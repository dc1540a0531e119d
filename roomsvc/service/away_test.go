package service

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto/natstest"
)

// While JetStream is unavailable, the service waits, and reports by Ready that it waits.
func TestServiceWaitsForJetStream(t *testing.T) {
	dir := t.TempDir()
	srv := startNATS(t, true, func(o *server.Options) { o.JetStream, o.StoreDir = false, dir })
	cfg := DefaultConfig()
	cfg.Dial, cfg.Log = srv.Dial, slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Run(t, "the service", s.Run)
	natstest.Eventually(t, "the reason", func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), "JetStream")
	})
	if err := srv.EnableJetStream(&server.JetStreamConfig{StoreDir: dir}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the service to be ready", func() bool { return s.Ready() == nil })
}

// The service should wait after an error about unreachable servers, because the servers may return.
// The service should stop after an error about settings, because an operator must change the
// settings.
func TestOnlyErrorsAboutServersAreTemporary(t *testing.T) {
	for _, c := range []struct {
		err  jetstream.APIError
		want bool
	}{
		{jetstream.APIError{Code: 400, ErrorCode: 10005}, true},  // no suitable peers
		{jetstream.APIError{Code: 503, ErrorCode: 10008}, true},  // no leader
		{jetstream.APIError{Code: 500, ErrorCode: 10118}, true},  // the stream is offline
		{jetstream.APIError{Code: 500, ErrorCode: 10194}, true},  // the same, with a reason
		{jetstream.APIError{Code: 404, ErrorCode: 10059}, true},  // another instance is just making the stream
		{jetstream.APIError{Code: 400, ErrorCode: 10027}, false}, // too many streams
		{jetstream.APIError{Code: 400, ErrorCode: 10052}, false}, // a bad setting
	} {
		if got := temporary(fmt.Errorf("open: %w", &c.err)); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.err, got, c.want)
		}
	}
}
