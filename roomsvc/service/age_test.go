package service

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// The test sets the age limit of the log to two seconds. The stream drops records and ownership
// markers after that time.
func TestMarkersAreRenewedAndLogsAgeOut(t *testing.T) {
	srv := startNATS(t, true)
	s, stop := startService(t, srv, func(c *Config) { c.HistoryAge, c.Idle = 2*time.Second, 500*time.Millisecond })
	defer stop()
	nc := srv.Connect(t)
	askUntil(t, nc, message("lobby", "u", "", "hi"), final)
	askUntil(t, nc, message("lobby", "u", "", "hi"), final)
	first := readLog(t, srv, proto.MustRoom("lobby"))
	p := proto.MustRoom("hall").Partition()
	seen := map[uint64]bool{}
	for i := 0; len(seen) < 6; i++ { // this takes longer than a marker lives
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
	// The log of the lobby has aged out: its seqs begin again, in another epoch.
	natstest.Eventually(t, "the old log to age out", func() bool { return len(readLog(t, srv, proto.MustRoom("lobby"))) == 0 })
	askUntil(t, nc, message("lobby", "u", "", "hi"), func(r proto.Reply) bool { return r.Seq == 1 })
	if again := readLog(t, srv, proto.MustRoom("lobby")); again[0].State.Epoch == first[0].State.Epoch {
		t.Errorf("epoch %s began twice", first[0].State.Epoch)
	}
}

// A log of limited size drops its oldest messages, including ownership markers. The owner must
// write its markers again before the log drops them. So it loses no partition.
func TestMarkersOutliveALogOfLimitedSize(t *testing.T) {
	srv := startNATS(t, true)
	var logged logBuffer
	s, stop := startService(t, srv, logTo(t, &logged), func(c *Config) { c.MaxBytes = 2 << 20 })
	defer stop()
	natstest.Eventually(t, "all partitions", func() bool { return s.owner.Held() == proto.Partitions })
	nc := srv.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	oldest := func() uint64 {
		t.Helper()
		log, err := js.Stream(t.Context(), proto.StreamName)
		if err != nil {
			t.Fatal(err)
		}
		return log.CachedInfo().State.FirstSeq
	}
	markers := func() (seqs [proto.Partitions]uint64) {
		t.Helper()
		for p := range seqs {
			m, err := s.commits.Marker(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			seqs[p] = m.Seq
		}
		return seqs
	}
	first := markers()
	for n := 0; oldest() <= slices.Max(first[:]); n++ { // until all first records are gone
		before := markers()
		for i := range 30 { // more than a quarter of the log
			askUntil(t, nc, message("lobby", "u", fmt.Sprint(n, "-", i), strings.Repeat("x", 20<<10)), final)
		}
		natstest.Eventually(t, "all markers to be written again", func() bool {
			for p, seq := range markers() {
				if seq == before[p] {
					return false
				}
			}
			return true
		})
	}
	for _, lost := range []string{"partition lost", "taken by force"} {
		if n := logged.count(lost); n > 0 {
			t.Errorf("the log of the service says %q %d times", lost, n)
		}
	}
}
