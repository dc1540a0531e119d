package events

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// A partition that is asked about again must wait for a look-up that begins after the new question.
// Otherwise people could settle the question without the rooms that another owner has reported
// since.
func TestOlderLookUpDoesNotCount(t *testing.T) {
	srv := natstest.Start(t)
	cfg := DefaultConfig()
	cfg.Stream = true
	e, err := New(cfg, Service{
		Dial:     func(opts ...nats.Option) (*nats.Conn, error) { return srv.Dial("events", opts...) },
		Replicas: 1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Open(t.Context(), srv.Connect(t)); err != nil {
		t.Fatal(err)
	}
	if err := e.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer e.nc.Close()
	p, now := newPeople(e), time.Now()
	defer p.tasks.Wait()
	ours := new(owned)
	p.partitions[proto.MustRoom("lobby").Partition()] = ours
	known := func(when string, b belief, want bool) {
		t.Helper()
		p.believe(b, now)
		if ours.known != want {
			t.Errorf("%s: known is %v, want %v", when, ours.known, want)
		}
	}
	ask := func() belief {
		p.recheckPartition(proto.MustRoom("lobby").Partition(), now)
		p.sendQuestion(t.Context(), now)
		natstest.Eventually(t, "the result of the look-up", func() bool { return len(p.found) > 0 })
		return <-p.found
	}
	first := ask()
	known("the first question", first, true)
	now = now.Add(time.Second)
	p.recheckPartition(proto.MustRoom("lobby").Partition(), now)
	known("before the second question", first, false)
	second := ask()
	known("after the second question", first, false)
	known("the result of the second question", second, true)
}

// The service may stop before the events have begun to run.
func TestRunEndsAtOnceIfItsContextHasEnded(t *testing.T) {
	e, err := New(DefaultConfig(), Service{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.Run(ctx)
}
