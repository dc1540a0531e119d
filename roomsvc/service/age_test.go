package service

import (
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// TestAgeing has records live for two seconds, ownership markers among them.
func TestAgeing(t *testing.T) {
	srv := startNATS(t, true)
	s, stop := startService(t, srv, func(c *Config) { c.HistoryAge, c.Idle = 2*time.Second, 500*time.Millisecond })
	defer stop()
	nc := srv.Connect(t)
	askUntil(t, nc, message("lobby", "u", "", "hi"), final)
	askUntil(t, nc, message("lobby", "u", "", "hi"), final)
	first := readLog(t, srv, proto.MustRoom("lobby"))
	p := proto.MustRoom("hall").Partition()
	seen := map[uint64]bool{}
	for i := 0; len(seen) < 6; i++ { // longer than a marker lives
		if m, err := s.commits.Marker(t.Context(), p); err == nil {
			if m.Seq == 0 {
				t.Fatal("the marker has aged out")
			}
			seen[m.Seq] = true
		}
		if r := askUntil(t, nc, message("hall", "u", "", "hi"), final); r.Refusal != nil {
			t.Fatalf("got %+v", r)
		}
	}
	// The other room is another one by now: its numbers begin again, in another epoch.
	natstest.Eventually(t, "the old log to age out", func() bool { return len(readLog(t, srv, proto.MustRoom("lobby"))) == 0 })
	askUntil(t, nc, message("lobby", "u", "", "hi"), func(r proto.Reply) bool { return r.Seq == 1 })
	if again := readLog(t, srv, proto.MustRoom("lobby")); again[0].State.Epoch == first[0].State.Epoch {
		t.Errorf("epoch %s began twice", first[0].State.Epoch)
	}
}
