package service

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/natstest"
)

func change(t *testing.T, nc *nats.Conn, act proto.Act, from, key string, seq uint64, text string) proto.Reply {
	t.Helper()
	m := message("lobby", from, key, text)
	m.Header.Set(proto.HeaderKind, string(act))
	m.Header.Set(proto.HeaderSeq, fmt.Sprint(seq))
	m.Header.Set(proto.HeaderRights, "read say")
	return askUntil(t, nc, m, final)
}

// shown returns the events of the lobby as text, as a reader of the log sees them. It reads them in
// several kinds of pages, and checks that all give the same events.
func shown(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	log := history.New(nc, nil)
	first := ""
	for _, q := range []history.Query{{HasSince: true, Limit: 200}, {Limit: 200}, {Last: 200, Limit: 200}, {Before: 1000, Limit: 200}, {HasSince: true, Limit: 1}, {Limit: 1}} {
		q.Room = proto.MustRoom("lobby")
		var all []string
		for single := q.Limit == 1; ; {
			page, err := log.Read(t.Context(), q)
			if err != nil || page.Gap != nil {
				t.Fatalf("%+v: gap %v, %v", q, page.Gap, err)
			}
			var some []string
			for i := range page.Records {
				some = append(some, string(page.Records[i].Payload))
			}
			if !q.HasSince {
				all = append(some, all...)
			} else {
				all = append(all, some...)
			}
			if !single || len(page.Records) == 0 || !page.More {
				break
			}
			if q.HasSince {
				q.Since = page.Records[0].Seq
			} else {
				q.Before = page.Records[0].Seq
			}
		}
		if got := strings.Join(all, "\n"); first == "" {
			first = got
		} else if got != first {
			t.Fatalf("%+v: got\n%.500s\nwant\n%.500s", q, got, first)
		}
	}
	return first
}

// holdsText reports whether any file below dir contains the text.
func holdsText(t *testing.T, dir, text string) (holds bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // the server removes files at any time
		}
		b, err := os.ReadFile(path)
		holds = holds || err == nil && bytes.Contains(b, []byte(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return holds
}

// After a delete, readers see a stub instead of the message, and the server's files no longer
// contain its text. If the sender resends the deleted message, the next owner recognises it and
// does not store it again.
func TestDeletedMessageIsErased(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	say(t, nc, "lobby", "ann", "k0", "before")
	say(t, nc, "lobby", "ann", "k1", "CANARY-one")
	say(t, nc, "lobby", "bob", "", "between")
	var stubs []string // of the edits
	for i := range 3 {
		r := change(t, nc, proto.ActEdit, "ann", "", 2, fmt.Sprint("CANARY-edit-", i))
		if r.Refusal != nil {
			t.Fatalf("edit: %v", r.Refusal)
		}
		stubs = append(stubs, string(proto.Stub{Author: "ann", At: r.At.UnixMilli()}.AppendStub(nil, proto.MustRoom("lobby"), r.Seq)))
	}
	if got := shown(t, nc); !strings.Contains(got, `"seq":2,`) || !strings.Contains(got, `"text":"CANARY-edit-2","edited":"`) || strings.Contains(got, "CANARY-one") {
		t.Errorf("after the edits readers see\n%s", got)
	}
	if r := change(t, nc, proto.ActDelete, "bob", "", 2, ""); code(r.Refusal) != proto.Forbidden {
		t.Errorf("bob deletes a message of ann: got %+v", r)
	}
	if r := change(t, nc, proto.ActDelete, "ann", "d", 2, "oops"); r.Refusal != nil {
		t.Fatalf("delete: %v", r.Refusal)
	}
	check := func(when string) {
		t.Helper()
		got := shown(t, nc)
		if strings.Contains(got, "CANARY") || strings.Count(got, `"deleted":true`) != 4 || !strings.Contains(got, `"seq":2,"at":"`) ||
			!strings.Contains(got, `"from":{"id":"ann"},"deleted":true}`) || !strings.Contains(got, `"kind":"deleted"`) {
			t.Errorf("%s readers see\n%s", when, got)
		}
		for _, stub := range stubs {
			if !strings.Contains(got, stub) {
				t.Errorf("%s readers see\n%s\nwithout %s", when, got, stub)
			}
		}
	}
	check("after the delete")
	natstest.Eventually(t, "the bytes to leave the files", func() bool { return !holdsText(t, srv.Dir(), "CANARY") })
	if !holdsText(t, srv.Dir(), "between") {
		t.Error("the files lack a message that was not deleted, so this test would find nothing")
	}
	stop()
	_, stop = startService(t, srv)
	defer stop()
	if r := say(t, nc, "lobby", "ann", "k1", "CANARY-one"); !r.Duplicate || r.Seq != 2 {
		t.Errorf("the deleted message comes again: got %+v, want a duplicate of 2", r)
	}
	if r := change(t, nc, proto.ActEdit, "ann", "", 2, "again"); code(r.Refusal) != proto.NotFound {
		t.Errorf("an edit of the deleted message: got %+v", r)
	}
	if r := change(t, nc, proto.ActEdit, "ann", "", 1, "still there"); r.Refusal != nil {
		t.Errorf("an edit of another message: got %+v", r)
	}
	check("with the next owner")
	if r := change(t, nc, proto.ActDelete, "ann", "d", 2, "oops"); !r.Duplicate {
		t.Errorf("the delete comes again: got %+v", r)
	}
}

// Members do not see a key that a gateway has made, also not in the event of the deletion. The next
// owner still recognises the message by this key.
func TestDeleteDoesNotShowTheKeyOfAGateway(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	m := message("lobby", "ann", "", "hello")
	m.Header.Set(proto.HeaderOnce, "made-by-a-gateway")
	if r := askUntil(t, nc, m, final); r.Seq != 1 {
		t.Fatalf("say: got %+v", r)
	}
	say(t, nc, "lobby", "ann", "own-key", "bye")
	for seq := range uint64(2) {
		if r := change(t, nc, proto.ActDelete, "ann", "", seq+1, ""); r.Refusal != nil {
			t.Fatalf("delete: %v", r.Refusal)
		}
	}
	if got := shown(t, nc); strings.Contains(got, "made-by-a-gateway") || !strings.Contains(got, `"author":{"id":"ann","key":"own-key","at":"`) {
		t.Errorf("readers see\n%s", got)
	}
	stop()
	_, stop = startService(t, srv)
	defer stop()
	if r := askUntil(t, nc, m, final); !r.Duplicate || r.Seq != 1 {
		t.Errorf("the message comes again: got %+v, want a duplicate of 1", r)
	}
}

// The owner has died after it wrote the snapshot of a delete, and before it erased the message.
// Readers see a stub at once, and the next owner erases the message.
func TestNextOwnerErasesTheRemainingRecords(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	s, stop := startService(t, srv)
	for i := range 70 {
		say(t, nc, "lobby", "ann", "", fmt.Sprint("message ", i))
	}
	say(t, nc, "lobby", "ann", "", "CANARY")
	if r := change(t, nc, proto.ActDelete, "ann", "", 3, ""); r.Refusal != nil {
		t.Fatalf("delete: %v", r.Refusal)
	}
	stop()
	// The dead owner has left a snapshot that names the record as deleted, and the record itself.
	log := history.New(nc, nil)
	snapshot, found, err := log.Snapshot(t.Context(), proto.MustRoom("lobby"))
	if err != nil || !found {
		t.Fatalf("got no snapshot: %v", err)
	}
	snapshot.Limits.Deleted[71] = proto.Stub{Author: "ann"}
	body, err := snapshot.AppendJSON(nil)
	if err == nil {
		_, err = nc.Request(proto.MustRoom("lobby").StateSubject(), body, s.cfg.Commit)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := shown(t, nc); strings.Contains(got, "CANARY") || strings.Count(got, `"deleted":true`) != 2 {
		t.Errorf("readers see\n%s", got)
	}
	_, stop = startService(t, srv)
	defer stop()
	say(t, nc, "lobby", "bob", "", "hi")
	natstest.Eventually(t, "the bytes to leave the files", func() bool { return !holdsText(t, srv.Dir(), "CANARY") })
}

// Readers read the log while records are deleted. No reader reports the missing record as a gap.
func TestDeletesDuringReadsLeaveNoGap(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	defer stop()
	for i := range 60 {
		say(t, nc, "lobby", "ann", "", fmt.Sprint("message ", i))
	}
	log, done := history.New(srv.Connect(t), nil), make(chan error)
	stopped := make(chan struct{})
	go func() {
		for since := uint64(0); ; since = (since + 1) % 60 {
			page, err := log.Read(t.Context(), history.Query{Room: proto.MustRoom("lobby"), Since: since, HasSince: true})
			if err == nil && page.Gap != nil {
				err = fmt.Errorf("since=%d: got the gap %+v", since, *page.Gap)
			}
			if err == nil && page.Records[0].Seq != since+1 {
				err = fmt.Errorf("since=%d: the page begins with %d", since, page.Records[0].Seq)
			}
			select {
			case <-stopped:
				done <- err
				return
			default:
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for seq := uint64(1); seq <= 60; seq++ {
		if r := change(t, nc, proto.ActDelete, "ann", fmt.Sprint(seq), seq, ""); r.Refusal != nil {
			t.Fatalf("delete: %v", r.Refusal)
		}
	}
	close(stopped)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
