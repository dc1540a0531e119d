package service

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/natstest"
)

// resettable is a NATS server whose directory a test can set back to an earlier state.
type resettable struct {
	dir string
	srv *natstest.Server
	url string
}

func newResettable(t *testing.T) *resettable {
	g := &resettable{dir: t.TempDir()}
	g.srv = startNATS(t, true, func(o *server.Options) { o.StoreDir = g.live() })
	g.url = g.srv.Addr().String()
	return g
}

func (g *resettable) live() string { return filepath.Join(g.dir, "live") }

// keep copies the directory of the server, in the state that a power loss at this moment would
// leave.
func (g *resettable) keep(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", g.live(), filepath.Join(g.dir, "kept")).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
}

// lose stops the server, sets a part of its directory back to the kept state, and starts it again.
func (g *resettable) lose(t *testing.T, part string) {
	t.Helper()
	g.srv.Shutdown()
	g.srv.WaitForShutdown()
	if err := os.RemoveAll(filepath.Join(g.live(), part)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(g.dir, "kept", part), filepath.Join(g.live(), part)); err != nil {
		t.Fatal(err)
	}
	g.srv = startNATS(t, true, at(t, g.url), func(o *server.Options) { o.StoreDir = g.live() })
}

// sayUntil says a message until it is stored.
func sayUntil(t *testing.T, nc *nats.Conn, room, key, text string) proto.Reply {
	t.Helper()
	return askUntil(t, nc, message(room, "u", key, text), func(r proto.Reply) bool { return r.Seq > 0 })
}

// readSince returns the page that a client at the given position receives.
func readSince(t *testing.T, nc *nats.Conn, room string, since uint64, epoch string) history.Page {
	t.Helper()
	page, err := history.New(nc, nil).Read(t.Context(), history.Query{
		Room: proto.MustRoom(room), Since: since, HasSince: true, Epoch: epoch, Limit: proto.MaxHistory,
	})
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// The NATS server comes back with fewer records than it had acknowledged. The test has three cases.
// The room service kept running, or it was restarted, or it died with the server and left a witness
// file beside the log.
func TestALogThatLostItsEndBeginsNewEpochs(t *testing.T) {
	const all, log = "", "jetstream/$G/streams/" + proto.StreamName
	for name, how := range map[string]struct {
		lost          string
		restart, file bool
	}{
		"the service remembers":             {lost: all},
		"the stream of snapshots remembers": {lost: log, restart: true},
		"the file beside the log remembers": {lost: all, restart: true, file: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newResettable(t)
			nc := g.srv.Connect(t)
			file := filepath.Join(t.TempDir(), "witness.json")
			change := func(c *Config) {
				c.Dial = g.srv.Dial
				if how.file {
					c.WitnessFile = file
				}
			}
			s, stop := startService(t, g.srv, change)
			for i := range 10 {
				sayUntil(t, nc, "lobby", fmt.Sprint("a", i), fmt.Sprint("old ", i+1))
			}
			sayUntil(t, nc, "quiet", "q", "hi")
			newWitness(s).store(t.Context())
			g.keep(t)
			for i := range 10 {
				sayUntil(t, nc, "lobby", fmt.Sprint("b", i), fmt.Sprint("old ", i+11))
			}
			newWitness(s).store(t.Context())
			epoch := readSince(t, nc, "lobby", 0, "").Head.Epoch
			if how.restart {
				stop()
			}
			g.lose(t, how.lost)
			natstest.Eventually(t, "the connection", nc.IsConnected)
			if how.restart {
				s, stop = startService(t, g.srv, change)
			}
			defer stop()
			for i := range 15 {
				sayUntil(t, nc, "lobby", fmt.Sprint("c", i), fmt.Sprint("new ", i+11))
			}
			sayUntil(t, nc, "quiet", "q2", "hi")
			if got := s.commits.Witness().Losses; got != 1 {
				t.Errorf("the service counts %d losses, want 1", got)
			}
			page := readSince(t, nc, "lobby", 20, epoch)
			if page.Gap == nil || page.Gap.Reason != proto.GapReset || page.Gap.Epoch == epoch || len(page.Records) != 25 {
				t.Errorf("a client at 20 receives the gap %+v and %d records, want a reset and 25", page.Gap, len(page.Records))
			}
			for i, r := range page.Records {
				if r.Seq != uint64(i+1) || r.State.Epoch != page.Head.Epoch {
					t.Fatalf("record %d has seq %d and epoch %s", i, r.Seq, r.State.Epoch)
				}
			}
			// The room quiet lost no record, so it must not begin a new epoch.
			if page := readSince(t, nc, "quiet", 1, epoch); page.Head.Seq != 2 {
				t.Errorf("the quiet room has %d records, want 2", page.Head.Seq)
			}
			// The owner must recognise a resent message of the new epoch.
			if r := sayUntil(t, nc, "lobby", "c3", "new 14"); !r.Duplicate || r.Seq != 14 {
				t.Errorf("resent: got %+v, want a duplicate of 14", r)
			}
		})
	}
}
