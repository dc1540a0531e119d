package service

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/natstest"
)

// wreck is a NATS server with a service. A test damages the files of the server while both are
// stopped.
type wreck struct {
	t    *testing.T
	dir  string
	srv  *natstest.Server
	nc   *nats.Conn
	stop func()
}

func newWreck(t *testing.T) *wreck {
	w := &wreck{t: t, dir: t.TempDir()}
	w.start()
	return w
}

func (w *wreck) start() {
	w.t.Helper()
	w.srv = startNATS(w.t, true, func(o *server.Options) { o.StoreDir = w.dir })
	w.nc = w.srv.Connect(w.t)
	_, w.stop = startService(w.t, w.srv)
}

// damaged stops the service and the server, calls do to damage the store, and starts both again.
func (w *wreck) damaged(crash bool, do func(s historytest.Store)) {
	w.t.Helper()
	w.stop()
	w.srv.Shutdown()
	w.srv.WaitForShutdown()
	store := historytest.Store{TB: w.t, Dir: w.dir}
	if crash {
		store.Crash()
	}
	do(store)
	w.start()
}

// say sends a message again and again, until an owner of the partition answers.
func (w *wreck) say(room, key, text string) proto.Reply {
	w.t.Helper()
	return w.ask(message(room, "ann", key, text))
}

func (w *wreck) act(room string, act proto.Act, key string) proto.Reply {
	w.t.Helper()
	m := message(room, "ann", key, "")
	m.Header.Set(proto.HeaderKind, string(act))
	return w.ask(m)
}

func (w *wreck) ask(m *nats.Msg) (r proto.Reply) {
	w.t.Helper()
	natstest.Eventually(w.t, "an answer", func() bool {
		got, err := w.nc.RequestMsg(m, time.Second)
		if err != nil {
			return false
		}
		if r, err = proto.ParseReply(got.Data); err != nil {
			w.t.Fatal(err)
		}
		return r.Refusal == nil || !r.Refusal.Temporary()
	})
	return r
}

func (w *wreck) read(q history.Query) history.Page {
	w.t.Helper()
	p, err := history.New(w.nc, nil).Read(w.t.Context(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *wreck) fill(room string, n int) {
	w.t.Helper()
	for i := range n {
		if r := w.say(room, fmt.Sprintf("k%d", i+1), fmt.Sprintf("message %d", i+1)); r.Seq != uint64(i+1) {
			w.t.Fatalf("got %+v, want seq %d", r, i+1)
		}
	}
}

// The room continues after the newest intact record, in a new epoch. The owner still recognises
// the keys of intact records.
func TestRoomContinuesAfterDamageToItsNewestRecord(t *testing.T) {
	w := newWreck(t)
	w.fill("lobby", 20)
	w.fill("hall", 3)
	lobby := proto.MustRoom("lobby")
	old := w.read(history.Query{Room: lobby}).Head.Epoch
	w.damaged(false, func(s historytest.Store) { s.Flip(proto.StreamName, `"text":"message 20`) })

	if p := w.read(history.Query{Room: lobby, HasSince: true}); len(p.Records) != 19 || p.Head.Seq != 19 {
		t.Errorf("got %d records and head %+v, want 19", len(p.Records), p.Head)
	}
	if p := w.read(history.Query{Room: lobby, HasSince: true, Since: 20, Epoch: old}); p.Gap == nil || p.Gap.Reason != proto.GapReset || len(p.Records) != 19 {
		t.Errorf("a reader that saw message 20 got gap %+v and %d records, want a reset and 19", p.Gap, len(p.Records))
	}
	if r := w.say("lobby", "k19", "message 19"); r.Seq != 19 || !r.Duplicate {
		t.Errorf("key of message 19: got %+v", r)
	}
	if r := w.say("lobby", "k20", "message 20"); r.Seq != 20 || r.Duplicate {
		t.Errorf("key of the damaged message: got %+v, want it stored again", r)
	}
	if r := w.say("lobby", "k21", "message 21"); r.Seq != 21 {
		t.Errorf("got %+v, want seq 21", r)
	}
	p := w.read(history.Query{Room: lobby, HasSince: true, Since: 20, Epoch: old})
	if p.Gap == nil || p.Gap.Reason != proto.GapReset || p.Gap.Epoch == old || len(p.Records) != 21 {
		t.Errorf("a reader that saw the old message 20 got gap %+v and %d records, want a reset and 21", p.Gap, len(p.Records))
	}
	if r := w.say("hall", "k3", "message 3"); r.Seq != 3 || !r.Duplicate {
		t.Errorf("another room: got %+v", r)
	}
}

// A closed room stays closed even if the record of the close is damaged, because the snapshot shows
// it.
func TestRoomStaysClosedAfterDamageToItsClose(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%v", crash), func(t *testing.T) {
			w := newWreck(t)
			w.fill("lobby", 3)
			w.fill("open", 3)
			if r := w.act("lobby", proto.ActClose, "c"); r.Seq != 4 {
				t.Fatalf("got %+v", r)
			}
			w.damaged(crash, func(s historytest.Store) {
				s.Flip(proto.StreamName, `"kind":"closed","from":\{"id":"ann"\}`)
			})
			lobby, open := proto.MustRoom("lobby"), proto.MustRoom("open")
			heads, err := history.New(w.nc, nil).Heads(t.Context(), []proto.Room{lobby, open})
			if err != nil || heads[lobby].Closed == crash || heads[open].Closed {
				t.Errorf("heads: got %+v, %v", heads, err) // after a crash, only the owner can know that the newest record is missing
			}
			if p := w.read(history.Query{Room: lobby, HasSince: true}); p.Head.Closed == crash || len(p.Records) != 3 {
				t.Errorf("read: got %+v and %d records", p.Head, len(p.Records))
			}
			if r := w.say("lobby", "", "hi"); r.Refusal == nil || r.Refusal.Code != proto.RoomClosed {
				t.Errorf("say: got %+v, want room_closed", r)
			}
			if r := w.say("open", "k4", "message 4"); r.Seq != 4 {
				t.Errorf("another room: got %+v", r)
			}
			if r := w.act("lobby", proto.ActReopen, "r"); r.Seq < 4 {
				t.Errorf("reopen: got %+v", r)
			}
			if r := w.say("lobby", "k9", "hi"); r.Seq < 5 {
				t.Errorf("say: got %+v", r)
			}
			w.damaged(false, func(historytest.Store) {})
			if r := w.say("lobby", "k9", "hi"); r.Seq < 5 || !r.Duplicate {
				t.Errorf("say after another restart: got %+v", r)
			}
		})
	}
}

func TestPartitionWithADamagedMarkerIsTaken(t *testing.T) {
	w := newWreck(t)
	w.fill("lobby", 3)
	if r := w.act("lobby", proto.ActClose, "c"); r.Seq != 4 {
		t.Fatalf("got %+v", r)
	}
	p := proto.MustRoom("lobby").Partition()
	w.damaged(false, func(s historytest.Store) {
		s.Flip(proto.StreamName, strings.ReplaceAll(proto.OwnSubject(p), ".", `\.`)+`(?s).\x00\x00\x00NATS`)
	})
	if r := w.act("lobby", proto.ActReopen, "r"); r.Seq != 5 {
		t.Errorf("reopen: got %+v, want seq 5", r)
	}
	if r := w.say("lobby", "k6", "hi"); r.Seq != 6 {
		t.Errorf("say: got %+v, want seq 6", r)
	}
}

// The service itself replaces a damaged message in the stream of snapshots. A limit of one message
// per subject would do that too, but then nats-server 2.15.2 hangs.
func TestDamagedMessageOfTheStateStreamIsReplaced(t *testing.T) {
	lobby := proto.MustRoom("lobby")
	for name, subject := range map[string]string{
		"snapshot": lobby.StateSubject(),
		"marker":   proto.StateOwnSubject(lobby.Partition()),
		"witness":  proto.SubjectWitness,
	} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s crash=%v", name, crash), func(t *testing.T) {
				w := newWreck(t)
				w.fill("lobby", 3)
				if r := w.act("lobby", proto.ActClose, "c"); r.Seq != 4 {
					t.Fatalf("close: got %+v", r)
				}
				w.damaged(crash, func(s historytest.Store) {
					s.Flip(proto.StateStream, strings.ReplaceAll(subject, ".", `\.`)+`[^.]`)
				})
				if r := w.say("lobby", "", "hi"); r.Refusal == nil || r.Refusal.Code != proto.RoomClosed {
					t.Errorf("say: got %+v, want room_closed", r)
				}
				if r := w.act("lobby", proto.ActReopen, "r"); r.Seq != 5 {
					t.Errorf("reopen: got %+v, want seq 5", r)
				}
				if r := w.act("lobby", proto.ActClose, "c2"); r.Seq != 6 {
					t.Errorf("close: got %+v, want seq 6", r)
				}
				snapshot, found, err := history.New(w.nc, nil).Snapshot(t.Context(), lobby)
				if err != nil || !found || !snapshot.Closed || snapshot.Seq != 6 {
					t.Errorf("the snapshot is %+v, %v, %v; want the closing at 6", snapshot, found, err)
				}
			})
		}
	}
}

// The error says what the operator must do.
func TestDamagedSecretStopsTheService(t *testing.T) {
	w := newWreck(t)
	w.stop()
	w.srv.Shutdown()
	w.srv.WaitForShutdown()
	historytest.Store{TB: t, Dir: w.dir}.Flip("KV_"+proto.SecretBucket, proto.SecretBucket+`\.`+proto.SecretKey)
	w.srv = startNATS(t, true, func(o *server.Options) { o.StoreDir = w.dir })
	cfg := DefaultConfig()
	cfg.Dial = w.srv.Dial
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Run(ctx); err == nil || !strings.Contains(err.Error(), "nats kv del") || ctx.Err() != nil {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}
