package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/conf"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/gateway/server/servertest"
	"roomcast/proto"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// shippedPasswords sets the environment variables that the shipped configuration uses.
func shippedPasswords(t *testing.T) {
	t.Helper()
	t.Setenv("NATS_SERVER_NAME", "n1")
	for _, user := range []string{"GATEWAY", "ROOMSVC", "OPERATOR", "ADMIN", "ROUTE"} {
		t.Setenv("NATS_"+user+"_PASSWORD", "right-"+user)
	}
	t.Setenv("NATS_ROUTES", "[nats://route:right-ROUTE@127.0.0.1:1]")
}

// shippedServer starts a NATS server in this process, with the configuration that docker compose
// uses and an additional user guest.
func shippedServer(t *testing.T, change ...func(*natsserver.Options)) *natstest.Server {
	t.Helper()
	shippedPasswords(t)
	opts, err := natsserver.ProcessConfigFile("../scripts/nats.conf")
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
	inbox := map[string]string{"gateway": "_INBOX_gw", "roomsvc": "_INBOX_roomsvc"}[user]
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

// serveRooms runs a room service over dial until the test ends or the returned function is
// called.
func serveRooms(t *testing.T, dial func(string, ...nats.Option) (*nats.Conn, error), change ...func(*service.Config)) (stop func()) {
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
		{"operator", subscribe, "$SYS.>", true}, // this subscribes only in the user's own account, which has no such messages
		{"admin", publish, "$JS.API.STREAM.PURGE.ROOMS", true},
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

// attacker is a client that tries to write where only roomsvc may write.
type attacker struct {
	name    string
	nc      *nats.Conn
	answers string            // the subject on which the attacker receives answers
	asks    map[string]string // the bodies of the attacker's requests, by subject
}

var (
	reads = map[string]string{
		"room.js.INFO": "", "room.js.STREAM.INFO.ROOMS": "", "room.js.STREAM.MSG.GET.ROOMS": `{"seq":1}`, "room.js.DIRECT.GET.ROOMS": `{"seq":1}`,
	}
	ownGets = map[string]string{
		"$JS.API.INFO": "", "$JS.API.STREAM.INFO.ROOMS": "", "$JS.API.STREAM.MSG.GET.ROOMS": `{"seq":1}`, "$JS.API.DIRECT.GET.ROOMS": `{"seq":1}`,
		"$JS.API.DIRECT.GET.ROOMS.room.log.19.lobby": "", "$JS.API.STREAM.NAMES": "",
	}
	eventReads = map[string]string{
		"room.js.CONSUMER.INFO.ROOMEVENTS.shop": "", "room.js.CONSUMER.MSG.NEXT.ROOMEVENTS.shop": `{"no_wait":true,"batch":1}`,
		"$JS.ACK.ROOMEVENTS.shop.1.1.1.1.0": "+NXT",
	}
)

func asks(some ...map[string]string) map[string]string {
	all := map[string]string{"room.deputy": "hello", "room.svc.info": "", "room.svc.close": "no JSON", "room.svc.keys": "", "room.who.24.lobby": "", "$SRV.PING": "", "$SRV.INFO.roomsvc": ""}
	for _, m := range some {
		maps.Copy(all, m)
	}
	return all
}

// protected lists subjects in the account ROOMS on which only roomsvc and the NATS server may
// publish.
var protected = []string{
	"room.log.19.victim", "room.own.19", "room.state.19.victim", "room.state.19", "room.witness",
	"room.out.19.victim", "room.sys.19.victim", "room.ack.victim.x", "room.peer.release.x", "room.peer.changed",
	"$KV.ROOMSVC.svc.nobody", "$KV.ROOMSECRET.keys", "room.sys.keys", "$KV.ROOMTICKET.x", "$KV.ROOMREVOKED.x", "$KV.ROOMPOSITION.x", "room.sys.revoked",
	"room.evt.joined.19.victim", "room.evt.log.19.victim", "room.evt.erased.1", "$JS.API.CONSUMER.CREATE.ROOMEVENTS",
	"$JS.API.CONSUMER.CREATE.ROOMEVENTS.x", "$JS.API.CONSUMER.DELETE.ROOMEVENTS.shop", "$JS.API.STREAM.MSG.DELETE.ROOMEVENTS", "$JS.API.STREAM.DELETE.ROOMS", "$JS.API.STREAM.PURGE.ROOMS",
	"$JS.API.STREAM.UPDATE.ROOMS", "$JS.API.STREAM.MSG.DELETE.ROOMS", "$JS.API.STREAM.MSG.DELETE.ROOMSTATE", "$JS.API.CONSUMER.CREATE.ROOMS", "_INBOX_roomsvc.x", "_R_.x.y",
}

// guarded lists protected subjects that a gateway could name as a reply subject, because a
// gateway receives its own answers on similar subjects. The real subjects of other gateways end
// in a token that it cannot guess.
var guarded = []string{"room.ack.victim.x", "_INBOX_roomsvc.x"}

// nothingIsHeard makes each attacker publish on each protected subject. It also makes the
// attacker use the subject as the reply subject of each request, and as the destination of a
// message trace. The observer, in the account ROOMS, must receive none of these messages.
func nothingIsHeard(t *testing.T, observer *nats.Conn, attackers []attacker) {
	t.Helper()
	heard := make(chan *nats.Msg, 1024)
	for _, subject := range protected {
		if _, err := observer.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := observer.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, a := range attackers {
		for _, subject := range protected {
			if err := a.nc.Publish(subject, []byte("forged")); err != nil {
				t.Fatal(err)
			}
			for ask, body := range a.asks {
				if a.name != "gateway" || !slices.Contains(guarded, subject) {
					if err := a.nc.PublishRequest(ask, subject, []byte(body)); err != nil {
						t.Fatal(err)
					}
				}
				traced := nats.NewMsg(ask)
				traced.Header.Set("Nats-Trace-Dest", subject)
				if err := a.nc.PublishMsg(traced); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Answers arrive in the order of the requests, so the answer to this request is the
		// last.
		answers, err := a.nc.SubscribeSync(a.answers)
		if err != nil {
			t.Fatal(err)
		}
		for ask, body := range a.asks {
			if err := a.nc.PublishRequest(ask, strings.Replace(a.answers, "*", "1", 1), []byte(body)); err != nil {
				t.Fatal(err)
			}
			if _, err := answers.NextMsg(time.Second); err != nil && ask == "room.deputy" {
				t.Errorf("%s asks %s: %v", a.name, ask, err)
			}
		}
		if err := observer.Flush(); err != nil {
			t.Fatal(err)
		}
		for range len(heard) {
			m := <-heard
			if strings.HasPrefix(m.Reply, "_INBOX_roomsvc.") {
				continue // roomsvc's own request, which deletes a snapshot that it has replaced
			}
			t.Errorf("%s: %s was written: %v %q", a.name, m.Subject, m.Header, m.Data)
		}
	}
}

// Only roomsvc can write the log, a fence, a lease, the secret or an answer. Others can neither
// publish on these subjects nor use them as reply subjects.
func TestNobodyWritesWhereOnlyRoomsvcMay(t *testing.T) {
	t.Run("shipped", func(t *testing.T) {
		ns := shippedServer(t)
		serveRooms(t, func(name string, more ...nats.Option) (*nats.Conn, error) {
			return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name), nats.CustomInboxPrefix("_INBOX_roomsvc"), nats.UserInfo("roomsvc", "right-ROOMSVC")}, more...)...)
		}, toldToShop)
		nothingIsHeard(t, connectAs(t, ns, "admin"), []attacker{
			{"gateway", connectAs(t, ns, "gateway"), "room.ack.me.*", asks(reads)},
			{"operator", connectAs(t, ns, "operator"), "_INBOX.me.*", asks(reads, ownGets, eventReads)},
			{"guest", connectAs(t, ns, "guest"), "_INBOX.me.*", asks(reads, ownGets)},
		})
	})
	t.Run("embedded", func(t *testing.T) {
		password := strings.Repeat("secret", 3)
		inside := startEmbedded(t, func(e *standalone) { e.PasswordFile = servertest.File(t, password) })
		serveRooms(t, inside.dialer(userService), toldToShop)
		observer, err := inside.dialer(userService)("observer")
		if err != nil {
			t.Fatal(err)
		}
		defer observer.Close()
		gateway, err := inside.dialer(userGateway)("gateway")
		if err != nil {
			t.Fatal(err)
		}
		defer gateway.Close()
		nothingIsHeard(t, observer, []attacker{
			{"gateway", gateway, "room.ack.me.*", asks(reads, ownGets)},
			{"backend", connectTo(t, inside.server.Load(), nats.UserInfo("me", password)), "_INBOX.me.*", asks(reads, ownGets, eventReads)},
		})
	})
	t.Run("guest of the embedded server", func(t *testing.T) {
		inside := startEmbedded(t)
		serveRooms(t, inside.dialer(userService), toldToShop)
		observer, err := inside.dialer(userService)("observer")
		if err != nil {
			t.Fatal(err)
		}
		defer observer.Close()
		nothingIsHeard(t, observer, []attacker{{"guest", connectTo(t, inside.server.Load()), "_INBOX.me.*", map[string]string{"room.deputy": "hello"}}})
	})
}

// A gateway that has its own NATS user receives neither the answers to other gateways nor their
// reply subjects.
func TestGatewayWithItsOwnUserReceivesOnlyItsAnswers(t *testing.T) {
	ns := shippedServer(t, func(opts *natsserver.Options) {
		i := slices.IndexFunc(opts.Users, func(u *natsserver.User) bool { return u.Username == "gateway" })
		for _, id := range []string{"gw1", "gw2"} {
			own := strings.NewReplacer("room.ack.*", "room.ack."+id, "room.gw.*", "room.gw."+id, "gateway.*", "gateway."+id, "_INBOX_gw", "_INBOX_"+id)
			user, perms := *opts.Users[i], *opts.Users[i].Permissions
			user.Username, user.Password, user.Permissions = id, "right-"+strings.ToUpper(id), &perms
			change := func(p *natsserver.SubjectPermission) *natsserver.SubjectPermission {
				p = &natsserver.SubjectPermission{Allow: slices.Clone(p.Allow)}
				for i, s := range p.Allow {
					p.Allow[i] = own.Replace(s)
				}
				return p
			}
			perms.Publish, perms.Subscribe = change(perms.Publish), change(perms.Subscribe)
			perms.Subscribe.Allow = append(perms.Subscribe.Allow, "room.gw.*") // gateways receive each other's heartbeats
			opts.Users = append(opts.Users, &user)
		}
	})
	for _, tt := range []struct {
		publish bool
		subject string
		allowed bool
	}{
		{false, "room.ack.gw1.*", true}, {false, "_INBOX_gw1.>", true}, {true, "room.gw.gw1", true}, {false, "room.gw.*", true},
		{false, "room.ack.gw2.*", false}, {false, "room.ack.>", false}, {false, "_INBOX_gw2.>", false}, {false, "_INBOX_gw.>", false},
		{true, "room.gw.gw2", false}, {true, "_INBOX_gw2.x", false}, {true, "room.ack.gw2.x", false},
	} {
		nc := connectAs(t, ns, "gw1")
		if got := permitted(t, nc, tt.publish, tt.subject); got != tt.allowed {
			t.Errorf("gw1 may use %s (publish %v): got %v, want %v", tt.subject, tt.publish, got, tt.allowed)
		}
		nc.Close()
	}
}

// toldToShop makes roomsvc create the consumer shop.
func toldToShop(c *service.Config) { c.Events.Consumers = []string{"shop"} }

// An application can read events only from the consumer that roomsvc has made for it. It cannot
// make a consumer itself. Guests and gateways cannot read events.
func TestApplicationsReadEventsFromTheirConsumers(t *testing.T) {
	ns := shippedServer(t)
	serveRooms(t, func(name string, more ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name), nats.CustomInboxPrefix("_INBOX_roomsvc"), nats.UserInfo("roomsvc", "right-ROOMSVC")}, more...)...)
	}, toldToShop)
	operator := connectAs(t, ns, "operator")
	for i := range 3 {
		if _, err := operator.Request("room.lobby", fmt.Append(nil, "message ", i), 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	js, err := jetstream.NewWithAPIPrefix(operator, "room.js")
	if err != nil {
		t.Fatal(err)
	}
	shop, err := js.Consumer(t.Context(), proto.EventsStream, "shop")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		m, err := shop.Next(jetstream.FetchMaxWait(20 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`"text":"message %d"`, i); !strings.Contains(string(m.Data()), want) {
			t.Errorf("got %s, want %s", m.Data(), want)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Errorf("acknowledge: %v", err)
		}
	}
	if info, err := shop.Info(t.Context()); err != nil || info.NumAckPending != 0 || info.NumPending != 0 {
		t.Errorf("got %+v, %v, want all events acknowledged", info, err)
	}
	for user, api := range map[string]string{"operator": "room.js", "gateway": "room.js", "guest": "$JS.API"} {
		nc := connectAs(t, ns, user)
		tries := map[string]string{
			api + ".CONSUMER.CREATE.ROOMEVENTS.mine": `{"stream_name":"ROOMEVENTS","config":{"name":"mine","ack_policy":"none"}}`,
			api + ".CONSUMER.DELETE.ROOMEVENTS.shop": "", api + ".STREAM.MSG.GET.ROOMEVENTS": `{"seq":1}`, api + ".DIRECT.GET.ROOMEVENTS": `{"seq":1}`,
		}
		if user != "operator" {
			tries[api+".CONSUMER.INFO.ROOMEVENTS.shop"], tries[api+".CONSUMER.MSG.NEXT.ROOMEVENTS.shop"] = "", ""
		}
		for subject, body := range tries {
			if m, err := nc.Request(subject, []byte(body), 200*time.Millisecond); err == nil && !strings.Contains(string(m.Data), "JetStream not enabled") {
				t.Errorf("%s asks %s and receives %s", user, subject, m.Data)
			}
		}
	}
}

// Only gateways can obtain the signing keys. No client can read the bucket with the keys.
func TestOnlyGatewaysObtainKeys(t *testing.T) {
	ns := shippedServer(t)
	serveRooms(t, func(name string, more ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name), nats.CustomInboxPrefix("_INBOX_roomsvc"), nats.UserInfo("roomsvc", "right-ROOMSVC")}, more...)...)
	})
	js, err := jetstream.New(connectAs(t, ns, "admin"))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), proto.SecretBucket)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := kv.Get(t.Context(), proto.SecretKey)
	var list proto.SigningKeys
	if err == nil {
		err = json.Unmarshal(stored.Value(), &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]bool{"gateway": true, "operator": false, "guest": false} {
		nc := connectAs(t, ns, user)
		var keys proto.Keys
		m, err := nc.Request(proto.SubjectKeys, nil, 2*time.Second)
		if err == nil {
			err = json.Unmarshal(m.Data, &keys)
		}
		if got := err == nil && len(keys.List) == 1 && string(keys.List[0].Secret) == string(list.List[0].Secret) && keys.Imported; got != want {
			t.Errorf("%s obtains the key: got %v, %v, want %v", user, got, err, want)
		}
		for _, get := range []string{"$JS.API.DIRECT.GET.KV_ROOMSECRET.$KV.ROOMSECRET.keys", "room.js.DIRECT.GET.KV_ROOMSECRET"} {
			if m, err := nc.Request(get, []byte(`{"last_by_subj":"$KV.ROOMSECRET.keys"}`), 200*time.Millisecond); err == nil {
				t.Errorf("%s reads the bucket: %q", user, m.Data)
			}
		}
	}
	// roomsvc announces a change of keys to the gateways. The announcement does not contain a
	// key.
	told, err := connectAs(t, ns, "gateway").SubscribeSync(proto.SubjectKeysChanged)
	if err != nil || told.SetPendingLimits(16, -1) != nil {
		t.Fatal(err)
	}
	cfg := service.DefaultConfig()
	cfg.Log = quiet()
	cfg.Dial = func(name string, more ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name), nats.CustomInboxPrefix("_INBOX_roomsvc"), nats.UserInfo("roomsvc", "right-ROOMSVC")}, more...)...)
	}
	natstest.Eventually(t, "the announcement", func() bool {
		if err := service.RotateKeys(t.Context(), cfg, true); err != nil {
			t.Fatal(err)
		}
		m, err := told.NextMsg(time.Second)
		return err == nil && strings.HasPrefix(string(m.Data), `{"revision":`)
	})
}

// Only a backend can answer a gateway's question. A guest can neither receive nor send
// questions. Questions do not reach the account of roomsvc.
func TestOnlyBackendsAnswerQuestions(t *testing.T) {
	ns := shippedServer(t)
	gateway := connectAs(t, ns, "gateway")
	var strangers []*nats.Subscription
	for _, user := range []string{"guest", "admin"} {
		nc := connectAs(t, ns, user)
		sub, err := nc.SubscribeSync("room.ask.>")
		if err != nil || nc.Flush() != nil {
			t.Fatal(err)
		}
		strangers = append(strangers, sub)
	}
	if _, err := gateway.Request("room.ask.join", []byte("question"), 200*time.Millisecond); err == nil {
		t.Error("a question has an answer although there is no backend")
	}
	backend := connectAs(t, ns, "operator")
	if _, err := backend.QueueSubscribe("room.ask.*", "app", func(m *nats.Msg) { m.Respond([]byte(m.Subject)) }); err != nil || backend.Flush() != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the backend to answer", func() bool {
		m, err := gateway.Request("room.ask.join", []byte("question"), time.Second)
		return err == nil && string(m.Data) == "room.ask.join"
	})
	for _, sub := range strangers {
		if n, _, _ := sub.Pending(); n > 0 {
			t.Errorf("a stranger received %d questions", n)
		}
	}
	guest := connectAs(t, ns, "guest")
	if _, err := guest.Request("room.ask.join", []byte("question"), 200*time.Millisecond); err == nil {
		t.Error("a guest asked the backend")
	}
}

// With the shipped permissions, only gateways can mark a ticket as used, and only once. They can
// also store and list revocations.
func TestTicketsAndRevocationsWithTheShippedConfiguration(t *testing.T) {
	ns := shippedServer(t)
	serveRooms(t, func(name string, more ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name), nats.CustomInboxPrefix("_INBOX_roomsvc"), nats.UserInfo("roomsvc", "right-ROOMSVC")}, more...)...)
	})
	for i, want := range []string{`{"first":true}`, `{}`, `{}`} {
		m, err := connectAs(t, ns, "gateway").Request(proto.SubjectTicket, []byte(`{"number":"ABCDEFGHIJKLMNOPQRST"}`), 20*time.Second)
		if err != nil || string(m.Data) != want {
			t.Errorf("use %d: got %+v, %v, want %s", i+1, m, err, want)
		}
	}
	m, err := connectAs(t, ns, "gateway").Request(proto.SubjectTicket, []byte(`{"number":"a.b > *"}`), 20*time.Second)
	if err != nil || !strings.Contains(string(m.Data), "error") {
		t.Errorf("a bad number: got %+v, %v", m, err)
	}
	if _, err := connectAs(t, ns, "operator").Request(proto.SubjectTicket, []byte(`{"number":"BBCDEFGHIJKLMNOPQRST"}`), time.Second); err == nil {
		t.Error("a backend marked a ticket")
	}
	gateway := connectAs(t, ns, "gateway")
	told, err := gateway.SubscribeSync(proto.SubjectRevoked)
	if err != nil || gateway.Flush() != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"ann", "ben"} {
		if m, err := gateway.Request(proto.SubjectRevoke, []byte(`{"id":"`+id+`"}`), 20*time.Second); err != nil || !strings.HasPrefix(string(m.Data), `{"at":`) {
			t.Errorf("revoke: got %+v, %v", m, err)
		}
		if m, err := told.NextMsg(20 * time.Second); err != nil || !strings.Contains(string(m.Data), id) {
			t.Errorf("told: got %+v, %v", m, err)
		}
	}
	if m, err := gateway.Request(proto.SubjectRevocations, []byte(`{"after":0}`), 20*time.Second); err != nil || !strings.Contains(string(m.Data), `"ann"`) || !strings.Contains(string(m.Data), `"ben"`) {
		t.Errorf("list: got %+v, %v", m, err)
	}
	if m, err := gateway.Request(proto.SubjectRevocations, []byte(`{"after":1}`), 20*time.Second); err != nil || strings.Contains(string(m.Data), `"ann"`) || !strings.Contains(string(m.Data), `"ben"`) {
		t.Errorf("list after 1: got %+v, %v", m, err)
	}
}
