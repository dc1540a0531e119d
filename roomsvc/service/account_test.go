package service

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// startAccounts runs a server with the accounts of the shipped configuration, and a service in the
// account ROOMS. Each account has a user with the same name.
func startAccounts(t *testing.T, change ...func(*Config)) (as func(account string) *nats.Conn) {
	t.Helper()
	for _, user := range []string{"GATEWAY", "ROOMSVC", "OPERATOR", "ADMIN"} {
		t.Setenv("NATS_"+user+"_PASSWORD", "secret")
	}
	t.Setenv("NATS_SERVER_NAME", "n1")
	shipped, err := os.ReadFile("../../scripts/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	srv := startNATS(t, false, func(o *server.Options) {
		*o = server.Options{NoSigs: true, NoLog: true}
		if err := o.ProcessConfigString(string(shipped)); err != nil {
			t.Fatal(err)
		}
		o.Host, o.Port, o.HTTPPort, o.StoreDir, o.SyncAlways = "127.0.0.1", -1, 0, t.TempDir(), false
		for _, a := range o.Accounts {
			o.Users = append(o.Users, &server.User{Username: a.Name, Password: "secret", Account: a})
		}
	})
	dial := func(user string) func(string, ...nats.Option) (*nats.Conn, error) {
		return func(name string, opts ...nats.Option) (*nats.Conn, error) {
			return srv.Dial(name, append(opts, nats.UserInfo(user, "secret"))...)
		}
	}
	startService(t, srv, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		c.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			return dial("roomsvc")(name, append(opts, nats.CustomInboxPrefix("_INBOX_roomsvc"))...)
		}
		for _, f := range change {
			f(c)
		}
	})
	return func(account string) *nats.Conn {
		nc, err := dial(account)("test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
}

// A client of a trusted account may name any sender and close rooms. A guest may do neither: the
// service replaces the sender that a guest names, and refuses a guest's act.
func TestGuestsAreNotBelieved(t *testing.T) {
	as := startAccounts(t)
	admin := as("ROOMS")
	out, err := admin.SubscribeSync("room.out.>")
	if err == nil {
		err = admin.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	forged := `{"acc":"APPS"}`
	for i, tt := range []struct {
		account string
		claims  []string // values of proto.HeaderAccount that the client sends; the server replaces them
		from    string
		act     proto.Code
	}{
		{"APPS", nil, "alice", ""},
		{"GUESTS", nil, "nats", proto.Forbidden},
		{"GUESTS", []string{forged}, "nats", proto.Forbidden},
		{"GUESTS", []string{forged, forged}, "nats", proto.Forbidden},
		{"GUESTS", []string{"", forged}, "nats", proto.Forbidden},
		{"ROOMS", nil, "alice", ""},
	} {
		nc := as(tt.account)
		room := "lobby" + string(rune('a'+i))
		msg := message(room, "alice", "k", "hi")
		msg.Header.Set(proto.HeaderName, "Alice")
		msg.Header[proto.HeaderAccount] = tt.claims
		if tt.account == "ROOMS" {
			delete(msg.Header, proto.HeaderAccount)
		}
		if r := ask(t, nc, msg); r.Seq != 1 {
			t.Errorf("%+v: got %+v, want seq 1", tt, r)
		}
		m, err := out.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		e, err := proto.ParseEvent(m.Data)
		if err != nil || e.From.ID != tt.from || (e.From.Name != "") != (tt.from == "alice") {
			t.Errorf("%+v: got an event from %+v, %v", tt, e.From, err)
		}
		msg.Header.Set(proto.HeaderKind, string(proto.ActClose))
		msg.Header.Del(proto.HeaderKey)
		if r := ask(t, nc, msg); code(r.Refusal) != tt.act {
			t.Errorf("%+v: close: got %+v, want %q", tt, r, tt.act)
		}
		msg.Header.Set(proto.HeaderKind, string(proto.ActBan))
		msg.Header.Set(proto.HeaderMember, "bob")
		msg.Header.Set(proto.HeaderRights, "read moderate")
		if r := ask(t, nc, msg); code(r.Refusal) != tt.act {
			t.Errorf("%+v: ban: got %+v, want %q", tt, r, tt.act)
		}
		for _, rule := range proto.Acts {
			if tt.account != "GUESTS" {
				continue
			}
			msg := message(room, "nats", "", "hi")
			msg.Header.Set(proto.HeaderKind, string(rule.Act))
			for field, header := range map[string]string{"member": proto.HeaderMember, "every": proto.HeaderEvery, "seq": proto.HeaderSeq} {
				if rule.Needs == field {
					msg.Header.Set(header, "1")
				}
			}
			if rule.Needs == "every" {
				msg.Header.Set(proto.HeaderEvery, "10s")
			}
			if r := ask(t, nc, msg); code(r.Refusal) != proto.Forbidden {
				t.Errorf("a guest's %s: got %+v, want %s", rule.Act, r, proto.Forbidden)
			}
		}
		if tt.act == "" {
			if _, err := out.NextMsg(5 * time.Second); err != nil {
				t.Fatal(err)
			}
			if _, err := out.NextMsg(5 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// roomsvc may publish on subjects on which the sender of a request may not. So it answers only if
// the reply subject is meant for answers. The test shows this with and without accounts.
func TestAnswersGoToReplySubjectsOnly(t *testing.T) {
	srv := startNATS(t, true)
	startService(t, srv)
	nc := srv.Connect(t)
	all, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	hostile := []string{"room.log.19.lobby", "room.own.19", "room.out.19.lobby", "room.state.19.lobby", "room.eph.19.lobby", "room.peer.changed",
		"$KV.ROOMSECRET.resume", "$KV.ROOMSVC.svc.nobody", "anything"}
	good := []string{proto.AckPrefix("g1") + "x", "_INBOX.x", "_INBOX_gw.x"}
	asks := []string{"room.lobby", proto.SubjectInfo, proto.SubjectClose, proto.SubjectKeys}
	for _, reply := range append(hostile, good...) {
		for _, subject := range asks {
			msg := message("lobby", "", "", "hi")
			msg.Subject, msg.Reply = subject, reply
			msg.Header.Set(proto.HeaderKind, "nonsense") // the service refuses it at once
			if err := nc.PublishMsg(msg); err != nil {
				t.Fatal(err)
			}
		}
	}
	for answers := 0; answers < len(good)*len(asks); {
		m, err := all.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatalf("got %d answers and %v, want %d", answers, err, len(good)*len(asks))
		}
		if slices.Contains(hostile, m.Subject) {
			t.Errorf("got an answer on %s: %s", m.Subject, m.Data)
		}
		if slices.Contains(good, m.Subject) {
			answers++
		}
	}
}

// --guest-rights limits the rooms in which a guest may say something. It does not limit clients of
// trusted accounts.
func TestGuestsHaveTheirRights(t *testing.T) {
	as := startAccounts(t, func(c *Config) { c.GuestRights = []string{"lobby=read say", "open-*=say", "*=read"} })
	for _, tt := range []struct {
		account, room string
		want          proto.Code
	}{
		{"GUESTS", "lobby", ""}, {"GUESTS", "open-1", ""}, {"GUESTS", "lobby2", proto.Forbidden}, {"GUESTS", "staff", proto.Forbidden},
		{"APPS", "staff", ""},
	} {
		m := message(tt.room, "", "", "hi")
		m.Header.Set(proto.HeaderRights, "read say moderate")
		if r := ask(t, as(tt.account), m); code(r.Refusal) != tt.want {
			t.Errorf("%s in %s: got %+v, want %q", tt.account, tt.room, r, tt.want)
		}
	}
}

// roomsvc logs a line for each act that comes over NATS. Acts that come over WebSocket or HTTP are
// logged by the gateway, because it knows more about their authors.
func TestActsOverNATSAreAudited(t *testing.T) {
	var log logBuffer
	as := startAccounts(t, logTo(t, &log))
	act := func() *nats.Msg {
		m := message("audited", "ann", "", "enough")
		m.Header.Set(proto.HeaderKind, string(proto.ActMute))
		m.Header.Set(proto.HeaderMember, "bob")
		return m
	}
	ask(t, as("APPS"), act())
	ask(t, as("GUESTS"), act())
	for _, want := range []string{
		"msg=audit act=mute by=ann credential=nats holder=APPS target=bob room=audited seq=1 reason=enough\n",
		"msg=audit act=mute by=nats credential=nats holder=GUESTS target=bob room=audited reason=enough refused=forbidden\n",
	} {
		if log.count(want) != 1 {
			t.Errorf("got a log without %s", want)
		}
	}
	gateway := as("EDGE")
	answers, err := gateway.SubscribeSync("room.ack.g1.*")
	if err != nil {
		t.Fatal(err)
	}
	m := act()
	m.Reply = "room.ack.g1.x"
	if err := gateway.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if _, err := answers.NextMsg(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if n := log.count("msg=audit"); n != 2 {
		t.Errorf("got %d lines of audit, want 2", n)
	}
}
