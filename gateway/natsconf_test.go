package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/conf"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto/daemon"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// shippedPasswords sets the environment variables that the shipped configuration uses.
func shippedPasswords(t *testing.T) {
	t.Helper()
	t.Setenv("NATS_SERVER_NAME", "n1")
	for _, user := range []string{"GATEWAY", "ROOMSVC", "OPERATOR", "ADMIN", "ROUTE", "ANN"} {
		t.Setenv("NATS_"+user+"_PASSWORD", "right-"+user)
	}
	t.Setenv("NATS_ROUTES", "[nats://route:right-ROUTE@127.0.0.1:1]")
}

// shippedServer starts a NATS server in this process, with the configuration that docker compose
// uses. It also has the user ann from an example in a comment there, and a user guest without
// permissions.
func shippedServer(t *testing.T, change ...func(*natsserver.Options)) *natstest.Server {
	t.Helper()
	shippedPasswords(t)
	text, err := os.ReadFile("../scripts/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	others, guests, ok := strings.Cut(string(text), "  GUESTS {")
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(others+"  GUESTS {"+strings.ReplaceAll(guests, "\n    # ", "\n    ")), 0o600); err != nil || !ok {
		t.Fatal("no account GUESTS", err)
	}
	opts, err := natsserver.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !opts.SyncAlways {
		t.Error("sync_interval is not always: acknowledged messages may not be on the disk")
	}
	opts.StoreDir = t.TempDir()
	opts.Users = append(opts.Users, &natsserver.User{Username: "guest", Password: "right-GUEST", Account: account(t, opts, "GUESTS")})
	for _, f := range change {
		f(opts)
	}
	return startServer(t, opts)
}

func account(t *testing.T, opts *natsserver.Options, name string) *natsserver.Account {
	t.Helper()
	for _, a := range opts.Accounts {
		if a.Name == name {
			return a
		}
	}
	t.Fatalf("there is no account %s", name)
	return nil
}

func startServer(t *testing.T, opts *natsserver.Options) *natstest.Server {
	t.Helper()
	opts.Port, opts.HTTPPort = -1, 0
	ns, err := natstest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Stop)
	return ns
}

// connectAs connects as a user of the shipped configuration.
func connectAs(t *testing.T, ns *natstest.Server, user string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	inbox := map[string]string{"gateway": "_INBOX_gw", "roomsvc": "_INBOX_roomsvc", "ann": "_INBOX_ann"}[user]
	return connectTo(t, ns, append([]nats.Option{nats.UserInfo(user, "right-"+strings.ToUpper(user)), nats.CustomInboxPrefix(cmp.Or(inbox, "_INBOX"))}, opts...)...)
}

func connectTo(t *testing.T, ns interface{ ClientURL() string }, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(ns.ClientURL(), append([]nats.Option{nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// dialRoomsvc returns a dialer that connects as roomsvc does with the shipped configuration.
func dialRoomsvc(ns *natstest.Server) daemon.Dialer {
	return func(name string, more ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name), nats.CustomInboxPrefix("_INBOX_roomsvc"), nats.UserInfo("roomsvc", "right-ROOMSVC")}, more...)...)
	}
}

// serveRooms runs a room service over dial until the test ends or the returned function is
// called.
func serveRooms(t *testing.T, dial daemon.Dialer, change ...func(*service.Config)) (stop func()) {
	t.Helper()
	cfg := service.DefaultConfig()
	cfg.Dial, cfg.Log, cfg.Sync = dial, quiet(), "always"
	for _, f := range change {
		f(&cfg)
	}
	svc, err := service.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = natstest.Run(t, "the room service", svc.Run)
	natstest.Eventually(t, "the room service", func() bool { return svc.Ready() == nil })
	return stop
}

// toldToShop makes roomsvc create the consumer shop.
func toldToShop(c *service.Config) { c.Events.Consumers = []string{"shop"} }

// The configuration must allow each user only what this user needs. Permissions alone do not
// protect the log; TestNobodyWritesWhereOnlyRoomsvcMay tests the rest.
func TestShippedConfigurationIsLeastPrivilege(t *testing.T) {
	ns := shippedServer(t)
	const (
		publish   = "publish"
		subscribe = "subscribe"
	)
	for _, tt := range []struct {
		user, act, subject string
		allowed            bool
	}{
		// A gateway may use the following subjects.
		{"gateway", publish, "room.lobby", true},
		{"gateway", publish, "room.eph.24.lobby", true},
		{"gateway", publish, "room.who.24.lobby", true},
		{"gateway", publish, "room.gw.id", true},
		{"gateway", publish, "room.js.DIRECT.GET.ROOMS", true},
		{"gateway", publish, "room.js.DIRECT.GET.ROOMSTATE", true},
		{"gateway", publish, "room.js.STREAM.MSG.GET.ROOMS", true},
		{"gateway", publish, "room.svc.keys", true},
		{"gateway", publish, "room.svc.lost", true},
		{"gateway", publish, "room.ask.say", true},
		{"gateway", subscribe, "room.ack.id.*", true},
		{"gateway", subscribe, "room.out.24.lobby", true},
		{"gateway", subscribe, "room.out.24.*", true},
		{"gateway", subscribe, "room.eph.24.lobby", true},
		{"gateway", subscribe, "room.who.*.*", true},
		{"gateway", subscribe, "room.sys.24.lobby", true},
		{"gateway", subscribe, "_INBOX_gw.id.>", true},
		{"gateway", subscribe, "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.ROOMS", true},
		// A gateway must not publish on subjects on which others expect records or messages of
		// roomsvc.
		{"gateway", publish, "room.log.24.lobby", false},
		{"gateway", publish, "room.out.24.lobby", false},
		{"gateway", publish, "room.ack.id.x", false},
		{"gateway", publish, "room.sys.24.lobby", false},
		{"gateway", publish, "room.own.24", false},
		{"gateway", publish, "room.state.24", false},
		{"gateway", publish, "$JS.API.STREAM.DELETE.ROOMS", false},
		{"gateway", publish, "$JS.API.CONSUMER.CREATE.ROOMS", false},
		{"gateway", publish, "$KV.ROOMSVC.svc.x", false},
		{"gateway", publish, "$KV.ROOMSECRET.x", false},
		{"gateway", publish, "$KV.ROOMTICKET.x", false},
		{"gateway", publish, "$KV.ROOMREVOKED.x", false},
		{"gateway", publish, "$KV.ROOMPOSITION.x", false},
		{"gateway", publish, "room.sys.revoked", false},
		{"gateway", publish, "room.sys.keys", false},
		{"gateway", publish, "room.sys.people", false},
		{"gateway", publish, "room.evt.joined.24.lobby", false},
		{"gateway", publish, "room.peer.release.x", false},
		{"gateway", publish, "_INBOX_roomsvc.x", false},
		{"gateway", publish, "_INBOX_gw.other.x", false},
		{"gateway", publish, "$SYS.REQ.SERVER.PING", false},
		// A gateway must not receive requests to roomsvc.
		{"gateway", subscribe, "room.*", false},
		{"gateway", subscribe, "room.lobby", false},
		{"gateway", subscribe, "room.in.24.*", false},
		{"gateway", subscribe, "room.>", false},
		{"gateway", subscribe, ">", false},
		{"gateway", subscribe, "room.ask.>", false},
		{"gateway", subscribe, "_INBOX.>", false},
		{"gateway", subscribe, "_R_.>", false},
		{"gateway", subscribe, "$KV.ROOMSVC.>", false},
		{"gateway", subscribe, "$SYS.>", false},

		// roomsvc may use the following subjects.
		{"roomsvc", publish, "room.log.24.lobby", true},
		{"roomsvc", publish, "room.own.24", true},
		{"roomsvc", publish, "room.state.24.lobby", true},
		{"roomsvc", publish, "room.witness", true},
		{"roomsvc", publish, "room.ack.id.x", true},
		{"roomsvc", publish, "_R_.x.y", true},
		{"roomsvc", publish, "$KV.ROOMSVC.svc.x", true},
		{"roomsvc", publish, "$JS.API.STREAM.CREATE.ROOMS", true},
		{"roomsvc", publish, "$JS.API.STREAM.UPDATE.ROOMS", true},
		{"roomsvc", publish, "$JS.API.STREAM.CREATE.ROOMSTATE", true},
		{"roomsvc", publish, "$JS.API.STREAM.MSG.DELETE.ROOMS", true},
		{"roomsvc", publish, "$JS.API.STREAM.MSG.DELETE.ROOMSTATE", true},
		{"roomsvc", subscribe, "room.*", true},
		{"roomsvc", subscribe, "room.in.24.*", true},
		{"roomsvc", publish, "room.evt.joined.24.lobby", true},
		{"roomsvc", publish, "$JS.API.STREAM.CREATE.ROOMEVENTS", true},
		{"roomsvc", publish, "$JS.API.STREAM.MSG.DELETE.ROOMEVENTS", true},
		{"roomsvc", publish, "$JS.API.CONSUMER.CREATE.ROOMEVENTS.shop", true},
		{"roomsvc", publish, "$KV.ROOMPOSITION.x", true},
		{"roomsvc", subscribe, "room.peer.release.x", true},
		{"roomsvc", subscribe, "_INBOX_roomsvc.>", true},
		{"roomsvc", publish, "$SYS.REQ.USER.INFO", true}, // the command "check" asks for the account
		// roomsvc must not use the following subjects.
		{"roomsvc", publish, "room.out.24.lobby", false},
		{"roomsvc", publish, "room.eph.24.lobby", false},
		{"roomsvc", publish, "$JS.API.STREAM.DELETE.ROOMS", false},
		{"roomsvc", publish, "$JS.API.STREAM.PURGE.ROOMS", false},
		{"roomsvc", publish, "$JS.API.STREAM.CREATE.OTHER", false},
		{"roomsvc", publish, "$JS.API.STREAM.DELETE.KV_ROOMSVC", false},
		{"roomsvc", publish, "$JS.API.STREAM.DELETE.ROOMEVENTS", false},
		{"roomsvc", publish, "$JS.API.CONSUMER.CREATE.ROOMS.x", false},
		{"roomsvc", publish, "_INBOX_gw.x", false},
		{"roomsvc", subscribe, "room.out.24.lobby", false},
		{"roomsvc", subscribe, ">", false},

		{"operator", publish, "room.lobby", true},
		{"operator", publish, "room.ask.join", false},
		{"operator", subscribe, "room.ask.>", true},
		{"roomsvc", publish, "room.ask.join", false},
		{"operator", subscribe, "room.out.>", true},
		{"operator", subscribe, "$SYS.>", true}, // allowed but harmless, because the user's own account has no such messages
		{"admin", publish, "$JS.API.STREAM.PURGE.ROOMS", true},

		{"ann", publish, "room.lobby", true},
		{"ann", subscribe, "room.out.>", true},
		{"ann", subscribe, "_INBOX_ann.>", true},
		// A guest must not read the requests of other guests or answer them.
		{"ann", subscribe, "room.*", false},
		{"ann", subscribe, "_INBOX.>", false},
		{"ann", publish, "_INBOX.x", false},
	} {
		nc := connectAs(t, ns, tt.user)
		if denied := !permitted(t, nc, tt.act == publish, tt.subject); denied == tt.allowed {
			t.Errorf("%s may %s %s: got %v, want %v", tt.user, tt.act, tt.subject, !denied, tt.allowed)
		}
		nc.Close()
	}
	for _, user := range []nats.Option{nil, nats.UserInfo("gateway", "wrong"), nats.UserInfo("gateway", "")} {
		if nc, err := nats.Connect(ns.ClientURL(), user); err == nil {
			nc.Close()
			t.Error("NATS accepts a wrong password")
		}
	}
}

// permitted reports whether the server allows nc to publish or to subscribe.
func permitted(t *testing.T, nc *nats.Conn, publish bool, subject string) bool {
	t.Helper()
	var err error
	if publish {
		err = nc.Publish(subject, nil)
	} else {
		_, err = nc.SubscribeSync(subject)
	}
	// If the server refuses, the refusal arrives before the answer to the flush.
	if err = errors.Join(err, nc.Flush()); err != nil {
		t.Fatal(err)
	}
	return !errors.Is(nc.LastError(), nats.ErrPermissionViolation)
}

// The command "check" connects in the same way as the gateway. So NATS must accept both
// connections or refuse both.
func TestCheckWorksWithTheShippedConfiguration(t *testing.T) {
	ns := shippedServer(t)
	for inbox, want := range map[string]string{"": "", "_INBOX_other": "_INBOX_other.> (--inbox-prefix)"} {
		cmd := command()
		cmd.SetOut(io.Discard)
		cmd.SetArgs([]string{"check", "--nats", ns.ClientURL(), "--user", "gateway", "--password", "right-GATEWAY",
			"--inbox-prefix", inbox, "--listen", "127.0.0.1:0", "--ops-listen", "off", "--log-level", "error"})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("inbox prefix %q: got %v, want %q in it", inbox, err, want)
		}
	}
}

// The embedded server must have the same accounts as the shipped configuration. Both must map
// rooms to the partitions of this version.
func TestEmbeddedAccountsAreTheShippedOnes(t *testing.T) {
	shippedPasswords(t)
	shipped, err := conf.ParseFile("../scripts/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	own, err := conf.Parse(accounts())
	if err != nil {
		t.Fatal(err)
	}
	want := shipped["accounts"].(map[string]any)
	for _, a := range want {
		delete(a.(map[string]any), "users")
		for _, list := range a.(map[string]any) {
			sortAll(list)
		}
	}
	for _, a := range own["accounts"].(map[string]any) {
		for _, list := range a.(map[string]any) {
			sortAll(list)
		}
	}
	if !reflect.DeepEqual(own["accounts"], any(want)) {
		t.Errorf("got %v, want %v", own["accounts"], want)
	}
}

// sortAll sorts a list of exports or imports.
func sortAll(list any) {
	if l, ok := list.([]any); ok {
		slices.SortFunc(l, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
}
