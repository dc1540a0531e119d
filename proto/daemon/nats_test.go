package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto/natstest"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestDialerNamesItsConnection(t *testing.T) {
	ns := natstest.Start(t)
	nc, err := NATS{URL: ns.ClientURL()}.Dialer(quiet())("gateway/abc")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	conns, err := ns.Connz(nil)
	if err != nil || len(conns.Conns) != 1 || conns.Conns[0].Name != "gateway/abc" {
		t.Errorf("got %+v, %v, want one connection called gateway/abc", conns, err)
	}
}

// A flag overrides the context. If flags contain credentials, no credentials of the context are
// used.
func TestFlagsOverrideContext(t *testing.T) {
	ns := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "good", Password: "right"}, {Username: "other", Password: "right"}}
	})
	write := func(fields map[string]string) string {
		path := filepath.Join(t.TempDir(), "ctx.json")
		b, _ := json.Marshal(fields)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write(map[string]string{"url": ns.ClientURL(), "user": "good", "password": "right"})
	for _, tt := range []struct {
		name string
		nats NATS
		user string // the user of the connection; "" = the server refuses the connection
	}{
		{"context alone", NATS{Context: good}, "good"},
		{"another user", NATS{Context: good, User: "other", Password: "right"}, "other"},
		{"a wrong password", NATS{Context: good, User: "other", Password: "wrong"}, ""},
		{"a token instead", NATS{Context: good, Token: "right"}, ""},
		{"the URL by flag", NATS{URL: ns.ClientURL(), Context: write(map[string]string{"url": "nats://127.0.0.1:1", "user": "good", "password": "right"})}, "good"},
		{"no authentication", NATS{URL: ns.ClientURL()}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nc, err := tt.nats.Dialer(quiet())("test")
			if tt.user == "" {
				if err == nil {
					nc.Close()
					t.Fatal("got a connection, want a refusal")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if nc.Opts.User != tt.user {
				t.Errorf("got user %q, want %q", nc.Opts.User, tt.user)
			}
		})
	}
}

func TestNATSStringHidesSecrets(t *testing.T) {
	for _, tt := range []struct {
		nats NATS
		want string
	}{
		{NATS{URL: "nats://n1:4222"}, "nats://n1:4222"},
		{NATS{URL: "nats://me:secret@n1:4222, tls://p@ss:w@n2"}, "nats://n1:4222,tls://n2"},
		{NATS{URL: "secret@n1"}, "n1"},
		{NATS{Context: "prod"}, "context prod"},
	} {
		if got := tt.nats.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// lines collects the lines that a logger writes. It is safe for concurrent use.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAwaitLogsOneWarning(t *testing.T) {
	// At first nothing listens on this port. NATS begins to listen on it after Await has logged
	// its warning.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	out := &lines{}
	log := slog.New(slog.NewTextHandler(out, nil))
	n := NATS{URL: "nats://" + ln.Addr().String()}
	tries := make(chan struct{}, 100)
	dial := n.Dialer(quiet())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- Await(ctx, func(name string, opts ...nats.Option) (*nats.Conn, error) {
			tries <- struct{}{}
			return dial(name, opts...)
		}, n.String(), "test", log)
	}()
	for range 4 {
		<-tries
	}
	natstest.Start(t, func(o *server.Options) { o.Port = port })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "waiting for nats"); got != 1 {
		t.Errorf("got %d lines about waiting, want 1:\n%s", got, out)
	}
}

func TestAwaitReturnsRefusalsAtOnce(t *testing.T) {
	ns := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "me", "right" })
	for name, n := range map[string]NATS{
		"wrong password": {URL: ns.ClientURL(), User: "me", Password: "wrong"},
		"missing file":   {URL: ns.ClientURL(), Creds: filepath.Join(t.TempDir(), "none")},
		"no context":     {Context: "nowhere"},
	} {
		if err := Await(t.Context(), n.Dialer(quiet()), n.String(), "test", quiet()); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestCheckNATSNamesTheWrongSetting(t *testing.T) {
	open := natstest.Start(t)
	locked := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "me", "right" })
	plain := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	for _, tt := range []struct {
		name string
		nats NATS
		want string // a part of the error; "" = no error
	}{
		{"all is well", NATS{URL: open.ClientURL()}, ""},
		{"nobody there", NATS{URL: "nats://127.0.0.1:1"}, "--nats nats://127.0.0.1:1"},
		{"wrong password", NATS{URL: locked.ClientURL(), User: "me", Password: "wrong"}, "--user and --password"},
		{"wrong token", NATS{URL: locked.ClientURL(), Token: "wrong"}, "--token"},
		{"no password", NATS{URL: locked.ClientURL()}, "give --creds, --nkey, --user or --token"},
		{"no JetStream", NATS{URL: plain.ClientURL()}, "has no JetStream"},
		{"no context", NATS{Context: "nowhere"}, "--context nowhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			err := CheckNATS(&out, tt.nats, "test", true, quiet())
			if tt.want == "" {
				if err != nil || !strings.Contains(out.String(), "JetStream answers") || !strings.Contains(out.String(), "one account for all") {
					t.Errorf("got %v and %q", err, &out)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to name %q", err, tt.want)
			}
		})
	}
}
