package events_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/natstest"
	"roomcast/proto/seal"
	"roomcast/roomsvc/service"
	"roomcast/roomsvc/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// serve runs a room service that sends events to applications.
func serve(t *testing.T, srv *natstest.Server, change ...func(*service.Config)) (stop func()) {
	t.Helper()
	cfg := service.DefaultConfig()
	cfg.Dial, cfg.Log = srv.Dial, slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg.Events.Stream = true
	for _, c := range change {
		c(&cfg)
	}
	s, err := service.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = natstest.Run(t, "the service", s.Run)
	natstest.Eventually(t, "the service to be ready", func() bool { return s.Ready() == nil })
	return stop
}

// do sends a message or an act again and again, until the answer is final. It returns the seq.
func do(t *testing.T, nc *nats.Conn, room, from, kind, text string, more ...string) (seq uint64) {
	t.Helper()
	m := nats.NewMsg(proto.MustRoom(room).Subject())
	m.Header.Set(proto.HeaderFrom, from)
	m.Header.Set(proto.HeaderKind, kind)
	m.Header.Set(proto.HeaderKey, fmt.Sprint(time.Now().UnixNano()))
	for i := 0; i+1 < len(more); i += 2 {
		m.Header.Set(more[i], more[i+1])
	}
	m.Data = []byte(text)
	natstest.Eventually(t, "an answer", func() bool {
		got, err := nc.RequestMsg(m, time.Second)
		if err != nil {
			return false
		}
		r, err := proto.ParseReply(got.Data)
		if err == nil && r.Refusal != nil && !r.Refusal.Temporary() {
			t.Fatal(r.Refusal)
		}
		seq = r.Seq
		return err == nil && r.Refusal == nil
	})
	return seq
}

func secretFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// receiver is an application that receives posts. It is safe for concurrent use.
type receiver struct {
	t      *testing.T
	server *httptest.Server

	mu    sync.Mutex
	posts []post
	hook  func(http.ResponseWriter, *http.Request) bool // may handle a post instead of the receiver
}

type post struct {
	id   string
	body webhook.Batch
	raw  string
}

func newReceiver(t *testing.T, hook func(http.ResponseWriter, *http.Request) bool) *receiver {
	r := &receiver{t: t, hook: hook}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) set(hook func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = hook
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	hook := r.hook
	r.mu.Unlock()
	if hook != nil && hook(w, req) {
		return
	}
	p := post{id: req.Header.Get("Webhook-Id"), raw: string(body)}
	if err == nil {
		err = json.Unmarshal(body, &p.body)
	}
	if err != nil || req.Header.Get("Content-Type") != "application/json" {
		r.t.Errorf("got %q: %v", body, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts = append(r.posts, p)
}

// got returns the data of the events that the receiver has accepted, each event once.
func (r *receiver) got() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[string]bool)
	for _, p := range r.posts {
		for _, e := range p.body.Events {
			if !seen[e.ID] {
				seen[e.ID] = true
				list = append(list, e.Type+" "+string(e.Data))
			}
		}
	}
	return list
}

func (r *receiver) url(c *service.Config) {
	c.Events.Webhooks = append(c.Events.Webhooks, r.server.URL+"/hook")
	c.Events.SecretFiles = []string{secretFile(r.t)}
}

// texts returns the texts of the messages among events.
func texts(events []string) (list []string) {
	for _, e := range events {
		var m struct {
			Text    string `json:"text"`
			Deleted bool   `json:"deleted"`
		}
		kind, data, _ := strings.Cut(e, " ")
		if json.Unmarshal([]byte(data), &m) == nil && kind == "message" {
			if m.Deleted {
				m.Text = "(deleted)"
			}
			list = append(list, m.Text)
		}
	}
	return list
}

// holds reports whether a file below dir contains the text.
func holds(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // the server removes files at any time
		}
		b, err := os.ReadFile(path)
		found = found || err == nil && bytes.Contains(b, []byte(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// While the receiver is away, posts fail. When the receiver is back, the room service posts all
// missed events in order. This holds even if the room service and NATS were restarted meanwhile. A
// retry has the id of the failed post.
func TestReceiverThatWasAwayMissesNothing(t *testing.T) {
	srv := natstest.Start(t)
	var mu sync.Mutex
	ids := make(map[string]int)
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		ids[req.Header.Get("Webhook-Id")]++
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	stop := serve(t, srv, r.url)
	nc := srv.Connect(t)
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprint("message ", i))
		do(t, nc, "lobby", "ann", "text", want[i])
	}
	natstest.Eventually(t, "a retry", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, n := range ids {
			if n > 1 {
				return true
			}
		}
		return false
	})
	stop()
	srv.Stop()
	srv.Restart(t)
	serve(t, srv, r.url)
	for i := range 150 {
		want = append(want, fmt.Sprint("later ", i))
		do(t, nc, "lobby", "ann", "text", want[30+i])
	}
	r.set(nil)
	natstest.Eventually(t, "all messages", func() bool { return len(texts(r.got())) >= len(want) })
	if got := texts(r.got()); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// If a message is deleted before the receiver has accepted it, the room service posts its stub
// instead. This holds even if an earlier post with the message has failed. The text of the message
// disappears from the files of the server.
func TestDeletedMessageIsPostedAsItsStub(t *testing.T) {
	srv := natstest.Start(t)
	tried := make(chan struct{}, 1)
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		select {
		case tried <- struct{}{}:
		default:
		}
		return true
	})
	serve(t, srv, r.url)
	nc := srv.Connect(t)
	do(t, nc, "lobby", "ann", "text", "before")
	first := do(t, nc, "lobby", "ann", "text", "CANARY-one")
	<-tried
	do(t, nc, "other", "bob", "text", "CANARY-in-another-room")
	second := do(t, nc, "lobby", "ann", "text", "CANARY-two")
	for i := range 3 {
		do(t, nc, "lobby", "ann", "edit", fmt.Sprint("CANARY-edit-", i), proto.HeaderSeq, fmt.Sprint(second))
	}
	do(t, nc, "lobby", "ann", "text", "between")
	for _, seq := range []uint64{first, second} {
		do(t, nc, "lobby", "ann", "delete", "", proto.HeaderSeq, fmt.Sprint(seq))
	}
	do(t, nc, "lobby", "ann", "text", "after")
	natstest.Eventually(t, "the bytes to leave the files", func() bool {
		return !holds(t, srv.Dir(), "CANARY-one") && !holds(t, srv.Dir(), "CANARY-two") && !holds(t, srv.Dir(), "CANARY-edit")
	})
	if !holds(t, srv.Dir(), "CANARY-in-another-room") {
		t.Error("the files lack a message that was not deleted, so this test would find nothing")
	}
	r.set(nil)
	want := []string{"before", "(deleted)", "CANARY-in-another-room", "(deleted)", "between", "after"}
	natstest.Eventually(t, "all messages", func() bool { return len(texts(r.got())) == len(want) })
	if got := texts(r.got()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	all := strings.Join(r.got(), "\n")
	if n := strings.Count(all, `edited {"room":"lobby","seq":`); n != 3 || strings.Count(all, `"at":"2`) < len(r.got()) || strings.Contains(all, "CANARY-e") || strings.Count(all, `"kind":"deleted"`) != 2 {
		t.Errorf("got %d edits:\n%s", n, all)
	}
	stub := fmt.Sprintf(`message {"room":"lobby","seq":%d,"at":"`, second)
	if !strings.Contains(all, stub) || !strings.Contains(all, `"from":{"id":"ann"},"deleted":true}`) {
		t.Errorf("there is no stub %s:\n%s", stub, all)
	}
}

// The eraser has not read the deletion yet, so the stream still contains the text. The snapshot of
// the room names the deletion, so the poster posts the stub.
func TestDeletionInASnapshotIsEnoughForAStub(t *testing.T) {
	srv := natstest.Start(t)
	first, release := make(chan struct{}, 1), make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) bool {
		select {
		case first <- struct{}{}:
		default:
		}
		<-release
		return false
	})
	serve(t, srv, r.url)
	nc := srv.Connect(t)
	do(t, nc, "lobby", "ann", "text", "before")
	<-first
	deleted := do(t, nc, "lobby", "ann", "text", "CANARY")
	do(t, nc, "lobby", "mod", "mute", "", proto.HeaderMember, "bob")
	do(t, nc, "other", "ann", "text", "in another room")
	last := do(t, nc, "lobby", "ann", "text", "after")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the events", func() bool {
		s, err := js.Stream(t.Context(), proto.EventsStream)
		return err == nil && s.CachedInfo().State.LastSeq >= last+1
	})
	snapshot, found, err := history.New(nc, nil).Snapshot(t.Context(), proto.MustRoom("lobby"))
	if err != nil || !found {
		t.Fatalf("got no snapshot: %v", err)
	}
	snapshot.Limits.Deleted = map[uint64]proto.Stub{deleted: {Author: "ann"}}
	body, err := snapshot.AppendJSON(nil)
	if err == nil {
		_, err = nc.Request(proto.MustRoom("lobby").StateSubject(), body, 10*time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	close(release)
	want := []string{"before", "(deleted)", "in another room", "after"}
	natstest.Eventually(t, "all messages", func() bool { return len(texts(r.got())) == len(want) })
	if got := texts(r.got()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An application reads the events of all rooms from its consumer. The events of one room come in
// order. If the service has keys, the payloads in the stream are encrypted, and webhooks receive
// them decrypted.
func TestSealedEventsAreOpenedForWebhooksOnly(t *testing.T) {
	srv := natstest.Start(t)
	keys, err := seal.New([]byte("a secret with thirty-two bytes!!"))
	if err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t, nil)
	serve(t, srv, r.url, func(c *service.Config) { c.Keys, c.Events.Consumers = keys, []string{"shop"} })
	nc := srv.Connect(t)
	do(t, nc, "lobby", "ann", "text", "CANARY")
	do(t, nc, "lobby", "mod", "mute", "", proto.HeaderMember, "ann")
	natstest.Eventually(t, "the events", func() bool { return len(r.got()) == 2 })
	if got := r.got(); !strings.Contains(got[0], `"text":"CANARY"`) || !strings.HasPrefix(got[1], "muted {") {
		t.Errorf("got %q", got)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(t.Context(), proto.EventsStream, "shop")
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(2)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for m := range batch.Messages() {
		n++
		if m.Subject() != strings.Replace(proto.MustRoom("lobby").LogSubject(), "room.log", "room.evt.log", 1) || bytes.Contains(m.Data(), []byte("CANARY")) || m.Headers().Get(proto.HeaderRecord) == "" {
			t.Errorf("got %s %q", m.Subject(), m.Data())
		}
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
	}
	if n != 2 {
		t.Errorf("got %d events, want 2", n)
	}
}

// If the store cannot read an event, the poster leaves it out and posts the later events.
func TestDamagedEventIsPassedOver(t *testing.T) {
	srv := natstest.Start(t)
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	stop := serve(t, srv, r.url)
	nc := srv.Connect(t)
	for i := range 5 {
		do(t, nc, "lobby", "ann", "text", fmt.Sprint("message ", i))
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the events", func() bool {
		s, err := js.Stream(t.Context(), proto.EventsStream)
		return err == nil && s.CachedInfo().State.LastSeq >= 5
	})
	stop()
	srv.Stop()
	historytest.Store{TB: t, Dir: srv.Dir()}.Flip(proto.EventsStream, "message 2")
	srv.Restart(t)
	r.set(nil)
	serve(t, srv, r.url)
	do(t, nc, "lobby", "ann", "text", "after")
	want := []string{"message 0", "message 1", "message 3", "message 4", "after"}
	natstest.Eventually(t, "the events", func() bool { return slices.Contains(texts(r.got()), "after") })
	if got := texts(r.got()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The next post says how many events the stream dropped while the receiver was away. If the stream
// is removed and made again, all events of the new stream are posted, under other ids.
func TestDroppedEventsAreCounted(t *testing.T) {
	srv := natstest.Start(t)
	away := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	r := newReceiver(t, away)
	stop := serve(t, srv, r.url)
	nc := srv.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	said := func(n uint64) {
		t.Helper()
		for i := range n {
			do(t, nc, "lobby", "ann", "text", fmt.Sprint("message ", i))
		}
		natstest.Eventually(t, "the events", func() bool {
			s, err := js.Stream(t.Context(), proto.EventsStream)
			return err == nil && s.CachedInfo().State.LastSeq >= n
		})
	}
	said(5)
	natstest.Purge(t, nc, proto.EventsStream, ">")
	do(t, nc, "lobby", "ann", "text", "after")
	r.set(nil)
	natstest.Eventually(t, "the event", func() bool { return slices.Equal(texts(r.got()), []string{"after"}) })
	missed := func() (n uint64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.posts {
			n += p.body.Missed
		}
		return n
	}
	if n := missed(); n != 5 {
		t.Errorf("got %d missed events, want 5", n)
	}
	stop()
	if err := js.DeleteStream(t.Context(), proto.EventsStream); err != nil {
		t.Fatal(err)
	}
	serve(t, srv, r.url)
	said(2)
	want := []string{"after", "message 0", "message 1"}
	natstest.Eventually(t, "the events", func() bool { return len(texts(r.got())) >= len(want) })
	if got := texts(r.got()); !slices.Equal(got, want) || missed() != 5 {
		t.Errorf("got %q and %d missed events", got, missed())
	}
}

// A receiver that hangs does not delay messages, and it does not delay the posts to another
// receiver.
func TestSlowReceiverDelaysNothingElse(t *testing.T) {
	srv := natstest.Start(t)
	hung := make(chan struct{}, 1)
	slow := newReceiver(t, func(_ http.ResponseWriter, req *http.Request) bool {
		select {
		case hung <- struct{}{}:
		default:
		}
		<-req.Context().Done()
		return true
	})
	quick := newReceiver(t, nil)
	serve(t, srv, slow.url, quick.url)
	nc := srv.Connect(t)
	do(t, nc, "lobby", "ann", "text", "first")
	<-hung
	want := []string{"first"}
	for i := range 20 {
		want = append(want, fmt.Sprint("message ", i))
		do(t, nc, "lobby", "ann", "text", want[i+1])
	}
	natstest.Eventually(t, "all messages", func() bool { return len(texts(quick.got())) == len(want) })
	if got := texts(quick.got()); !slices.Equal(got, want) || len(slow.got()) > 0 {
		t.Errorf("got %q, and the slow receiver %q", got, slow.got())
	}
}

func TestOnlyTheChosenKindsArePosted(t *testing.T) {
	srv := natstest.Start(t)
	r := newReceiver(t, nil)
	serve(t, srv, r.url, func(c *service.Config) { c.Events.Kinds = []string{"muted", "closed"} })
	nc := srv.Connect(t)
	do(t, nc, "lobby", "ann", "text", "hi")
	do(t, nc, "lobby", "mod", "mute", "", proto.HeaderMember, "ann")
	do(t, nc, "lobby", "mod", "close", "")
	natstest.Eventually(t, "the events", func() bool { return len(r.got()) == 2 })
	if got := r.got(); !strings.HasPrefix(got[0], "muted {") || !strings.HasPrefix(got[1], "closed {") {
		t.Errorf("got %q", got)
	}
}

// When another instance begins to lead, it continues the posts in order.
func TestAnotherInstanceContinues(t *testing.T) {
	srv := natstest.Start(t)
	r := newReceiver(t, nil)
	stops := []func(){serve(t, srv, r.url), serve(t, srv, r.url)}
	nc := srv.Connect(t)
	var want []string
	for i := range 60 {
		switch i {
		case 20:
			stops[0]()
		case 30:
			serve(t, srv, r.url)
		case 40:
			stops[1]()
		}
		want = append(want, fmt.Sprint("message ", i))
		do(t, nc, "lobby", "ann", "text", want[i])
	}
	natstest.Eventually(t, "all messages", func() bool { return len(texts(r.got())) == len(want) })
	if got := texts(r.got()); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
