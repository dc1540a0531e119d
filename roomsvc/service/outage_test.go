package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

func TestServerRestartLosesNothing(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		dir := t.TempDir()
		keep := func(o *server.Options) { o.StoreDir = dir }
		srv := startNATS(t, mapped, keep)
		port := srv.Addr().String()
		a, stopA := startService(t, srv, keepAll)
		b, stopB := startService(t, srv, keepAll)
		c := startSenders(t, srv, 20, rooms...)
		for range 2 {
			c.waitAcks(t, 300)
			srv.Shutdown()
			srv.WaitForShutdown()
			natstest.Eventually(t, "the loss to be noticed", func() bool { return a.Ready() != nil && b.Ready() != nil })
			srv = startNATS(t, mapped, keep, at(t, port))
			c.waitAcks(t, 300)
		}
		natstest.Eventually(t, "the partitions to be shared again", func() bool {
			return a.Ready() == nil && b.Ready() == nil && a.owner.Held()+b.owner.Held() == proto.Partitions
		})
		c.check(t, srv)
		stopA()
		stopB()
	})
}

// The test turns JetStream off on a running server, as the server itself does when its disk is
// full.
func TestSendersAreRefusedWhileTheLogIsSilent(t *testing.T) {
	srv := startNATS(t, true)
	s, stop := startService(t, srv, func(c *Config) { c.Commit = 300 * time.Millisecond })
	nc := srv.Connect(t)
	if r := say(t, nc, "lobby", "u", "1", "hi"); r.Seq != 1 {
		t.Fatalf("got %+v", r)
	}
	if err := srv.DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	r := say(t, nc, "lobby", "u", "2", "hi")
	if r.Refusal == nil || r.Refusal.Code != proto.Unavailable || !r.Refusal.Temporary() {
		t.Errorf("got %+v, want unavailable with a time to retry", r)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %s to refuse", took)
	}
	natstest.Eventually(t, "health to turn red", func() bool { return s.Ready() != nil })
	natstest.Eventually(t, "an immediate refusal", func() bool {
		begun := time.Now()
		r := say(t, nc, "lobby", "u", "3", "hi")
		return r.Refusal != nil && r.Refusal.Code == proto.Unavailable && time.Since(begun) < 50*time.Millisecond*slow
	})
	stop()
}

// An operator deletes the stream under a running service. The service must not crash, and must not
// silently begin again with seq 1.
func TestDeletedStreamIsUnavailable(t *testing.T) {
	srv := startNATS(t, true)
	s, stop := startService(t, srv, func(c *Config) { c.Commit = 300 * time.Millisecond })
	nc := srv.Connect(t)
	say(t, nc, "lobby", "u", "1", "hi")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), proto.StreamName); err != nil {
		t.Fatal(err)
	}
	if r := say(t, nc, "lobby", "u", "2", "hi"); r.Refusal == nil || r.Refusal.Code != proto.Unavailable {
		t.Errorf("got %+v, want unavailable", r)
	}
	natstest.Eventually(t, "health to turn red", func() bool { return s.Ready() != nil })
	stop()
}

func TestRunRefusesAForeignStream(t *testing.T) {
	srv := startNATS(t, true)
	js, err := jetstream.New(srv.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: proto.StreamName, Subjects: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Dial = srv.Dial
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Run(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want an error that says why", err)
	}
}

func TestRoomWithANewerRecordIsUnsupported(t *testing.T) {
	srv := startNATS(t, true)
	_, stop := startService(t, srv)
	defer stop()
	nc := srv.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	msg := nats.NewMsg(proto.MustRoom("lobby").LogSubject())
	msg.Header.Set(proto.HeaderRecord, "3 something else")
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if r := say(t, nc, "lobby", "u", "1", "hi"); r.Refusal == nil || r.Refusal.Code != proto.Unsupported {
		t.Errorf("got %+v, want unsupported", r)
	}
	if r := say(t, nc, "hall", "u", "1", "hi"); r.Seq != 1 {
		t.Errorf("another room: got %+v", r)
	}
}
