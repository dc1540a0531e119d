package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"roomcast/gateway/server/servertest"
	"roomcast/proto"
)

func startEmbedded(t *testing.T, change ...func(*standalone)) *embedded {
	t.Helper()
	e := defaultStandalone()
	e.DataDir, e.Monitor, e.Listen = t.TempDir(), "off", "127.0.0.1:0"
	for _, f := range change {
		f(&e)
	}
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	inside, err := e.start(quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inside.stop)
	return inside
}

// A guest of a standalone gateway may only send to rooms and follow rooms. It receives the
// answers to its own requests, but not those to others. Other guests do not receive what it
// publishes.
func TestGuestsOfTheEmbeddedServerOnlyUseRooms(t *testing.T) {
	inside := startEmbedded(t)
	serveRooms(t, inside.dialer(userService))
	for _, tt := range []struct {
		publish bool
		subject string
		allowed bool
	}{
		{true, "room.attic", true}, {true, "room.log.24.lobby", false}, {true, "room.out.24.lobby", false}, {true, "room.in.24.lobby", false},
		{true, "room.eph.24.lobby", false}, {true, "room.svc.close", false}, {true, "room.svc.keys", false}, {true, "room.svc.lost", false}, {true, "$SRV.PING", false},
		{true, "$JS.API.INFO", false}, {true, "$JS.API.DIRECT.GET.KV_ROOMSECRET.x", false}, {true, "_INBOX.x", false},
		{false, "room.out.24.lobby", true}, {false, "room.out.>", true}, {false, "_INBOX.>", true},
		{false, "room.>", false}, {false, "room.eph.*.*", false}, {false, "room.lobby", false}, {false, ">", false}, {false, "$KV.>", false},
	} {
		nc := connectTo(t, inside.server.Load())
		if got := permitted(t, nc, tt.publish, tt.subject); got != tt.allowed {
			t.Errorf("a guest may use %s (publish %v): got %v, want %v", tt.subject, tt.publish, got, tt.allowed)
		}
		nc.Close()
	}

	mute := startEmbedded(t, func(e *standalone) { e.Service.GuestRights = []string{"read say", "staff=say"} })
	if nc := connectTo(t, mute.server.Load()); permitted(t, nc, false, "room.out.>") {
		t.Error("guests without the right to read every room follow rooms")
	}

	one, other := connectTo(t, inside.server.Load()), connectTo(t, inside.server.Load())
	all, err := other.SubscribeSync("_INBOX.>")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := other.SubscribeSync("room.out.>")
	if err = errors.Join(err, other.Flush()); err != nil {
		t.Fatal(err)
	}
	heard := func(sub *nats.Subscription, patience time.Duration) (*nats.Msg, error) {
		for {
			m, err := sub.NextMsg(patience)
			if err != nil || m.Subject != proto.MustRoom("attic").OutSubject() { // messages of other rooms may still arrive
				return m, err
			}
		}
	}
	m := nats.NewMsg("room.lobby")
	m.Data = []byte("hello")
	m.Header.Set(proto.HeaderFrom, "alice")
	got, err := one.RequestMsg(m, 5*time.Second)
	if err != nil || !strings.HasPrefix(string(got.Data), `{"ok":{"seq":1`) {
		t.Fatalf("got %v, %v, want seq 1", got, err)
	}
	event, err := heard(shown, 5*time.Second)
	if err != nil || !strings.Contains(string(event.Data), `"from":{"id":"nats"`) {
		t.Fatalf("got %v, %v, want a message of a guest", event, err)
	}
	m.Header.Set(proto.HeaderKind, string(proto.ActClose))
	if got, err := one.RequestMsg(m, 5*time.Second); err != nil || !strings.Contains(string(got.Data), `"forbidden"`) {
		t.Errorf("close: got %v, %v, want forbidden", got, err)
	}
	// The other guest receives neither the forged record nor the answer that refuses it.
	if err := one.PublishRequest("room.lobby", "room.out.24.attic", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Request("room.lobby", []byte("again"), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one event for each of the two requests above
		if event, err = heard(shown, 5*time.Second); err != nil || event.Subject != proto.MustRoom("lobby").OutSubject() {
			t.Errorf("got %v, %v, want an event of the lobby", event, err)
		}
	}
	for _, sub := range []*nats.Subscription{all, shown} {
		if m, err := heard(sub, time.Millisecond); err == nil {
			t.Errorf("the other guest receives %s %q", m.Subject, m.Data)
		}
	}
}

// A new guest gets the account of a guest that has disconnected.
func TestGuestAccountsAreReused(t *testing.T) {
	inside := startEmbedded(t)
	for range 5 {
		one, other := connectTo(t, inside.server.Load()), connectTo(t, inside.server.Load())
		one.Close()
		other.Close()
		for inside.server.Load().NumClients() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	inside.door.mu.Lock()
	defer inside.door.mu.Unlock()
	if len(inside.door.guests) != 2 {
		t.Errorf("got %d accounts of guests, want 2", len(inside.door.guests))
	}
}

// The embedded server admits exactly the clients that the flags allow. It logs a warning if
// other machines can connect as guests.
func TestNATSListenAdmitsTheConfiguredClients(t *testing.T) {
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := key.PublicKey()
	other, _ := nkeys.CreateUser()
	stranger, _ := other.PublicKey()
	password := strings.Repeat("secret", 3)
	file := servertest.File(t, password+"\n")
	for _, tt := range []struct {
		name    string
		setting func(*standalone)
		admits  map[string]bool
		warns   bool
	}{
		{"open to this machine", func(*standalone) {}, map[string]bool{"nothing": true}, false},
		{"open to all machines", func(e *standalone) { e.Listen = "0.0.0.0:0" }, map[string]bool{"nothing": true}, true},
		{"password", func(e *standalone) { e.PasswordFile = file },
			map[string]bool{"nothing": false, "password": true, "token": true, "wrong": false, "nkey": false, "roomsvc": false}, false},
		{"nkey", func(e *standalone) { e.NKeys = []string{public} },
			map[string]bool{"nothing": false, "password": false, "nkey": true, "stranger": false, "forged": false}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := defaultStandalone()
			e.DataDir, e.Monitor, e.Listen = t.TempDir(), "off", "127.0.0.1:0"
			tt.setting(&e)
			if err := e.Check(); err != nil {
				t.Fatal(err)
			}
			var said strings.Builder
			inside, err := e.start(slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn})))
			if err != nil {
				t.Fatal(err)
			}
			defer inside.stop()
			if warns := strings.Contains(said.String(), "--nats-listen"); warns != tt.warns {
				t.Errorf("warns: got %v, want %v: %s", warns, tt.warns, said.String())
			}
			for as, want := range tt.admits {
				opts := map[string]nats.Option{
					"nothing": nats.Name(""), "password": nats.UserInfo("anybody", password), "token": nats.Token(password),
					"wrong": nats.UserInfo("anybody", "wrong"), "roomsvc": nats.UserInfo("roomsvc", ""),
					"nkey": nats.Nkey(public, key.Sign), "stranger": nats.Nkey(stranger, other.Sign), "forged": nats.Nkey(public, other.Sign),
				}[as]
				nc, err := nats.Connect(inside.server.Load().ClientURL(), opts)
				if err == nil {
					nc.Close()
				}
				if (err == nil) != want {
					t.Errorf("%s: got %v, want admitted %v", as, err, want)
				}
			}
		})
	}
	for _, bad := range []func(*standalone){
		func(e *standalone) { e.PasswordFile = servertest.File(t, "short") },
		func(e *standalone) { e.PasswordFile = filepath.Join(t.TempDir(), "none") },
		func(e *standalone) { e.NKeys = []string{"SUAXXX"} },
		func(e *standalone) { e.Listen, e.PasswordFile = "off", file },
	} {
		e := defaultStandalone()
		e.Listen = "127.0.0.1:0"
		bad(&e)
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), "--nats-listen-") {
			t.Errorf("got %v, want an error that names the flag", err)
		}
	}
}

// On a busy machine NATS needs a long time to make a stream, and makes the directory first. This
// is not a write error, so the store waits and does not restart NATS.
func TestStreamInTheMakingIsNoWriteError(t *testing.T) {
	inside := startEmbedded(t)
	js, err := inside.dialer(userService)("test")
	if err != nil {
		t.Fatal(err)
	}
	defer js.Close()
	if got := inside.healthy(); got != nil {
		t.Fatalf("got %v, want a healthy server", got)
	}
	if m, err := js.Request("$JS.API.STREAM.CREATE.made", []byte(`{"name":"made","subjects":["made"],"num_replicas":1,"storage":"file","retention":"limits"}`), time.Minute); err != nil || strings.Contains(string(m.Data), `"error"`) {
		t.Fatalf("got %v, %v, want a stream", m, err)
	}
	streams, err := filepath.Glob(filepath.Join(inside.form.DataDir, "jetstream", "*", "streams"))
	if err != nil || len(streams) != 1 {
		t.Fatalf("got the directories %q, %v, want that of one account", streams, err)
	}
	if err := os.Mkdir(filepath.Join(streams[0], "making"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := inside.healthy(); !errors.Is(got, errSlow) {
		t.Errorf("got %v, want %v", got, errSlow)
	}
}
