package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// A gateway with its own NATS user receives only the answers to its own requests. It also does
// not learn the reply subjects of other gateways.
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

// An application can read events only from the consumer that roomsvc has made for it. It cannot
// make a consumer itself. Guests and gateways cannot read from the stream ROOMEVENTS.
func TestApplicationsReadEventsFromTheirConsumers(t *testing.T) {
	ns := shippedServer(t)
	serveRooms(t, dialRoomsvc(ns), toldToShop)
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

// Only gateways can obtain the signing keys. No NATS client can read the bucket that holds
// them.
func TestOnlyGatewaysObtainKeys(t *testing.T) {
	ns := shippedServer(t)
	serveRooms(t, dialRoomsvc(ns))
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
	cfg.Log, cfg.Dial = quiet(), dialRoomsvc(ns)
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
	serveRooms(t, dialRoomsvc(ns))
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
