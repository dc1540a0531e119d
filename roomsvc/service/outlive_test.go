package service

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/natstest"
)

func actOn(room, from, key string, act proto.Act) *nats.Msg {
	m := message(room, from, key, "why")
	m.Header.Set(proto.HeaderKind, string(act))
	return m
}

// logOf returns how many records of a room are in the log.
func logOf(t *testing.T, nc *nats.Conn, room string) uint64 {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), proto.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	subject := proto.MustRoom(room).LogSubject()
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(subject))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Subjects[subject]
}

// The stream drops the record of a close, because of its age or for space. The room stays closed,
// also for the next owner and for readers. When it is reopened, it begins a new epoch.
func TestClosedOutlivesTheLog(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		drop   func(t *testing.T, nc *nats.Conn)
	}{
		"by age": {func(c *Config) { c.HistoryAge = time.Second }, func(*testing.T, *nats.Conn) {}},
		"for space": {func(c *Config) { c.MaxBytes = 1 << 20 }, func(t *testing.T, nc *nats.Conn) {
			for i := range 20 {
				sayUntil(t, nc, "other", fmt.Sprint(i), strings.Repeat("x", 60<<10))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := startNATS(t, true)
			nc := srv.Connect(t)
			_, stop := startService(t, srv, c.change)
			askUntil(t, nc, message("lobby", "u", "1", "hi"), final)
			if r := askUntil(t, nc, actOn("lobby", "mod", "c", proto.ActClose), final); r.Seq != 2 {
				t.Fatalf("close: got %+v", r)
			}
			c.drop(t, nc)
			natstest.Eventually(t, "the log of the room to be empty", func() bool { return logOf(t, nc, "lobby") == 0 })
			if r := askUntil(t, nc, message("lobby", "u", "2", "late"), final); code(r.Refusal) != proto.RoomClosed {
				t.Errorf("the same owner: got %+v, want %s", r, proto.RoomClosed)
			}
			stop()
			_, stop = startService(t, srv, c.change)
			defer stop()
			if r := askUntil(t, nc, message("lobby", "u", "2", "late"), final); code(r.Refusal) != proto.RoomClosed {
				t.Errorf("the next owner: got %+v, want %s", r, proto.RoomClosed)
			}
			page, err := history.New(nc, nil).Read(t.Context(), history.Query{Room: proto.MustRoom("lobby")})
			if err != nil || !page.Head.Closed || page.Head.Why != "why" {
				t.Errorf("readers see the head %+v, %v; want it closed", page.Head, err)
			}
			if r := askUntil(t, nc, actOn("lobby", "mod", "r", proto.ActReopen), final); r.Seq != 1 {
				t.Errorf("reopen: got %+v, want seq 1 of a new epoch", r)
			}
			if r := askUntil(t, nc, message("lobby", "u", "3", "hi again"), final); r.Refusal != nil {
				t.Errorf("after reopening: got %+v", r)
			}
		})
	}
}

// The owner has died after it wrote the record of a close, and before it wrote the snapshot. The
// next owner writes the snapshot. Without it, the room would be open again when the stream drops
// the record.
func TestNextOwnerWritesTheMissingSnapshot(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	lobby := proto.MustRoom("lobby")
	say(t, nc, "lobby", "u", "1", "hi")
	ask(t, nc, actOn("lobby", "mod", "c", proto.ActClose))
	stop()
	natstest.Purge(t, nc, proto.StateStream, lobby.StateSubject())
	_, stop = startService(t, srv)
	defer stop()
	say(t, nc, "lobby", "u", "2", "late")
	if s, found, err := history.New(nc, nil).Snapshot(t.Context(), lobby); err != nil || !found || !s.Closed || s.Seq != 2 {
		t.Errorf("got %+v, %v, %v; want the closing at 2", s, found, err)
	}
}

// The owner refuses a message or an act that has the key of another message or act. It also refuses
// a resent act that was undone meanwhile, because the act has no effect any more.
func TestKeyStandsForOneCommand(t *testing.T) {
	srv := startNATS(t, true)
	_, stop := startService(t, srv)
	defer stop()
	nc := srv.Connect(t)
	say(t, nc, "a", "api", "1", "pay 10")
	for name, msg := range map[string]*nats.Msg{
		"another text": message("a", "api", "1", "pay 2000"),
		"a close":      actOn("a", "api", "1", proto.ActClose),
	} {
		if r := ask(t, nc, msg); code(r.Refusal) != proto.BadRequest {
			t.Errorf("%s: got %+v, want %s", name, r, proto.BadRequest)
		}
	}
	if r := say(t, nc, "a", "api", "1", "pay 10"); !r.Duplicate || r.Seq != 1 {
		t.Errorf("the same again: got %+v, want a duplicate of 1", r)
	}
	ask(t, nc, actOn("b", "api", "close-b", proto.ActClose))
	ask(t, nc, actOn("b", "api", "reopen-b", proto.ActReopen))
	if r := ask(t, nc, actOn("b", "api", "close-b", proto.ActClose)); code(r.Refusal) != proto.BadRequest {
		t.Errorf("a close under the key of a close that was undone: got %+v, want %s", r, proto.BadRequest)
	}
}

// The clocks of two owners differ by more than the key window. This does no harm, because both
// measure the age of keys by the clock of the NATS server.
func TestKeysAgeByTheServersClock(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	stop() // the first service was needed only to make the stream
	room := proto.MustRoom("lobby")
	at := time.Now().Add(-3 * time.Minute).UTC().Truncate(time.Millisecond)
	first := message("lobby", "alice", "k", "hello")
	cmd, refusal := readCommand(first, room, nil, 1<<10)
	if refusal != nil {
		t.Fatal(refusal)
	}
	e := proto.Event{Room: room, Seq: 1, At: at, Epoch: "e", From: cmd.From, Key: "k", Content: cmd.Content}
	rec := proto.Record{Room: room, Seq: 1, From: "alice", Key: "k", Digest: cmd.Digests[0], Stamp: "s", State: proto.State{Epoch: "e", At: at, Start: 1}}
	rec.Payload, rec.Text = e.AppendRecord(nil)
	m := nats.NewMsg(room.LogSubject())
	m.Data = rec.Payload
	m.Header.Set(proto.HeaderRecord, rec.Header())
	if _, err := nc.RequestMsg(m, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	_, stop = startService(t, srv)
	defer stop()
	if r := say(t, nc, "lobby", "alice", "k", "hello"); !r.Duplicate || r.Seq != 1 {
		t.Errorf("a resend of a message of an owner whose clock is 3 minutes behind: got %+v, want a duplicate of 1", r)
	}
}

// The NATS server loses power while the service runs, and comes back with fewer records. Readers at
// every position can read all records that are stored later.
func TestRecordsAfterALossCanBeRead(t *testing.T) {
	g := newResettable(t)
	nc := g.srv.Connect(t)
	_, stop := startService(t, g.srv)
	defer stop()
	sayUntil(t, nc, "lobby", "0", "hi")
	g.keep(t)
	for i := range 600 {
		say(t, nc, fmt.Sprint("r", i%20), "u", "", "hi")
	}
	g.lose(t, "")
	natstest.Eventually(t, "the connection", nc.IsConnected)
	for i := range 200 {
		sayUntil(t, nc, "lobby", fmt.Sprint("n", i), "new")
	}
	for _, since := range []uint64{0, 63, 64, 70, 150, 199} {
		page := readSince(t, nc, "lobby", since, "")
		if len(page.Records) == 0 || page.Records[0].Seq != since+1 || page.Gap != nil {
			t.Errorf("since=%d: got %d records, gap %+v", since, len(page.Records), page.Gap)
		}
	}
	page, err := history.New(nc, nil).Read(t.Context(), history.Query{Room: proto.MustRoom("lobby"), Limit: 50})
	if err != nil || len(page.Records) != 50 {
		t.Errorf("the newest page has %d records, %v, want 50", len(page.Records), err)
	}
}
