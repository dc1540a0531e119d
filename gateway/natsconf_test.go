package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// shippedServer starts a server in this process with the configuration that docker
// compose uses.
func shippedServer(t *testing.T) *natsserver.Server {
	t.Helper()
	t.Setenv("NATS_SERVER_NAME", "test")
	for _, user := range []string{"GATEWAY", "ROOMSVC", "OPERATOR"} {
		t.Setenv("NATS_"+user+"_PASSWORD", "right-"+user)
	}
	opts, err := natsserver.ProcessConfigFile("../scripts/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !opts.SyncAlways {
		t.Error("sync_interval is not always: what is acknowledged would not be on the disk")
	}
	opts.Host, opts.Port, opts.HTTPPort, opts.StoreDir = "127.0.0.1", -1, 0, t.TempDir()
	opts.NoSigs, opts.NoLog = true, true
	ns, err := natsserver.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not start")
	}
	return ns
}

// Whoever gets hold of a gateway or of its password cannot forge history, move
// ownership, touch the stream, or listen to what is not for gateways; nor can a
// roomsvc do what only an operator may.
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
		// A gateway: what it needs.
		{"gateway", publish, "room.lobby", true},
		{"gateway", publish, "room.eph.24.lobby", true},
		{"gateway", publish, "room.who.24.lobby", true},
		{"gateway", publish, "$JS.API.DIRECT.GET.ROOMS", true},
		{"gateway", publish, "$JS.API.DIRECT.GET.ROOMS.room.log.24.lobby", true},
		{"gateway", publish, "$JS.API.STREAM.MSG.GET.ROOMS", true},
		{"gateway", subscribe, "room.out.24.lobby", true},
		{"gateway", subscribe, "room.out.24.*", true},
		{"gateway", subscribe, "room.eph.24.lobby", true},
		{"gateway", subscribe, "room.who.*.*", true},
		{"gateway", subscribe, "_INBOX_gw.id.>", true},
		{"gateway", subscribe, "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.ROOMS", true},
		// History: it can be read and not written.
		{"gateway", publish, "room.log.24.lobby", false},
		{"gateway", publish, "room.out.24.lobby", false},
		{"gateway", publish, "room.own.24", false},
		{"gateway", publish, "$JS.API.STREAM.DELETE.ROOMS", false},
		{"gateway", publish, "$JS.API.STREAM.PURGE.ROOMS", false},
		{"gateway", publish, "$JS.API.STREAM.UPDATE.ROOMS", false},
		{"gateway", publish, "$JS.API.STREAM.CREATE.OTHER", false},
		{"gateway", publish, "$JS.API.STREAM.MSG.DELETE.ROOMS", false},
		{"gateway", publish, "$JS.API.STREAM.SNAPSHOT.ROOMS", false},
		{"gateway", publish, "$JS.API.CONSUMER.CREATE.ROOMS", false},
		{"gateway", publish, "$KV.ROOMSVC.svc.x", false},
		{"gateway", publish, "$KV.ROOMSECRET.x", false},
		{"gateway", publish, "room.svc.close", false},
		{"gateway", publish, "room.svc.release.x", false},
		{"gateway", publish, "_INBOX_roomsvc.x", false},
		{"gateway", publish, "$SYS.REQ.SERVER.PING", false},
		// What others say to roomsvc is not a gateway's business.
		{"gateway", subscribe, "room.*", false},
		{"gateway", subscribe, "room.lobby", false},
		{"gateway", subscribe, "room.in.24.*", false},
		{"gateway", subscribe, "room.>", false},
		{"gateway", subscribe, ">", false},
		{"gateway", subscribe, "_INBOX.>", false},
		{"gateway", subscribe, "_INBOX_roomsvc.>", false},
		{"gateway", subscribe, "$KV.ROOMSVC.>", false},
		{"gateway", subscribe, "$SYS.>", false},

		// roomsvc: what it needs.
		{"roomsvc", publish, "room.log.24.lobby", true},
		{"roomsvc", publish, "room.own.24", true},
		{"roomsvc", publish, "$KV.ROOMSVC.svc.x", true},
		{"roomsvc", publish, "$JS.API.STREAM.CREATE.ROOMS", true},
		{"roomsvc", publish, "$JS.API.STREAM.UPDATE.ROOMS", true},
		{"roomsvc", subscribe, "room.*", true},
		{"roomsvc", subscribe, "room.in.24.*", true},
		{"roomsvc", subscribe, "_INBOX_roomsvc.>", true},
		// What it does not need.
		{"roomsvc", publish, "room.out.24.lobby", false},
		{"roomsvc", publish, "room.who.24.lobby", false},
		{"roomsvc", publish, "$JS.API.STREAM.DELETE.ROOMS", false},
		{"roomsvc", publish, "$JS.API.STREAM.PURGE.ROOMS", false},
		{"roomsvc", publish, "$JS.API.STREAM.MSG.DELETE.ROOMS", false},
		{"roomsvc", publish, "$JS.API.STREAM.CREATE.OTHER", false},
		{"roomsvc", publish, "$JS.API.STREAM.DELETE.KV_ROOMSVC", false},
		{"roomsvc", publish, "_INBOX_gw.id.x", false},
		{"roomsvc", subscribe, "room.out.24.lobby", false},
		{"roomsvc", subscribe, "_INBOX_gw.>", false},
		{"roomsvc", subscribe, ">", false},

		{"operator", publish, "room.lobby", true},
		{"operator", subscribe, "room.out.>", true},
		{"operator", subscribe, "$SYS.>", true}, // of its own account only: there is nothing
	} {
		passwords := map[string]string{"gateway": "right-GATEWAY", "roomsvc": "right-ROOMSVC", "operator": "right-OPERATOR"}
		nc, err := nats.Connect(ns.ClientURL(), nats.UserInfo(tt.user, passwords[tt.user]),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		if tt.act == publish {
			err = nc.Publish(tt.subject, nil)
		} else {
			_, err = nc.SubscribeSync(tt.subject)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil { // a refusal comes before the answer to this
			t.Fatal(err)
		}
		if denied := errors.Is(nc.LastError(), nats.ErrPermissionViolation); denied == tt.allowed {
			t.Errorf("%s may %s %s: got %v, want %v", tt.user, tt.act, tt.subject, !denied, tt.allowed)
		}
		nc.Close()
	}
	for _, user := range []nats.Option{nil, nats.UserInfo("gateway", "wrong"), nats.UserInfo("gateway", "")} {
		if nc, err := nats.Connect(ns.ClientURL(), user); err == nil {
			nc.Close()
			t.Error("somebody without the right password was let in")
		}
	}
}

// A check connects as the gateway does, so that the one is refused where the other is.
func TestCheckWithShippedConfiguration(t *testing.T) {
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

// Whoever connects to the server inside a standalone gateway is a guest: a member who
// speaks NATS.
func TestGuestsOfTheEmbeddedServer(t *testing.T) {
	e := defaultStandalone()
	e.DataDir, e.Monitor, e.Listen = t.TempDir(), "off", "127.0.0.1:0"
	inside, err := e.start(quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer inside.stop()
	for subject, allowed := range map[string]bool{
		"room.lobby": true, "room.log.24.lobby": false, "room.out.24.lobby": false, "room.own.24": false,
		"room.svc.close": false, "$JS.API.STREAM.DELETE.ROOMS": false, "$KV.ROOMSECRET.x": false,
		"$JS.API.STREAM.MSG.GET.KV_ROOMSECRET": false, "$JS.API.DIRECT.GET.KV_ROOMSECRET.x": false,
	} {
		nc, err := nats.Connect(inside.server.ClientURL(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(nc.Publish(subject, nil), nc.Flush()); err != nil {
			t.Fatal(err)
		}
		if denied := errors.Is(nc.LastError(), nats.ErrPermissionViolation); denied == allowed {
			t.Errorf("a guest may publish %s: got %v, want %v", subject, !denied, allowed)
		}
		nc.Close()
	}
}
