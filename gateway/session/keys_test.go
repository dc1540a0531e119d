package session_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/auth"
	"roomcast/proto"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// keyed is a NATS server with a room service, whose signing keys a test may change.
type keyed struct {
	t    *testing.T
	cfg  service.Config
	nc   *nats.Conn
	stop func()
}

func startKeyed(t *testing.T) *keyed {
	t.Helper()
	ns := natstest.Start(t)
	k := &keyed{t: t, cfg: service.DefaultConfig(), nc: ns.Connect(t)}
	k.cfg.Dial, k.cfg.Log = ns.Dial, slog.New(slog.DiscardHandler)
	svc, err := service.New(k.cfg)
	if err != nil {
		t.Fatal(err)
	}
	k.stop = natstest.Run(t, "the room service", svc.Run)
	eventually(t, "the room service", func() bool { return svc.Ready() == nil })
	return k
}

func (k *keyed) here(s *settings) { s.dial = k.cfg.Dial }

func (k *keyed) rotate(now bool) {
	k.t.Helper()
	if err := service.RotateKeys(k.t.Context(), k.cfg, now); err != nil {
		k.t.Fatal(err)
	}
}

// list returns the keys that roomsvc hands out to gateways.
func (k *keyed) list() []proto.SigningKey {
	k.t.Helper()
	m, err := k.nc.Request(proto.SubjectKeys, nil, 20*time.Second)
	var keys proto.Keys
	if err == nil {
		err = json.Unmarshal(m.Data, &keys)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return keys.List
}

// signer returns the Auth of a gateway that knows exactly these keys.
func (k *keyed) signer(keys ...proto.SigningKey) *auth.Auth {
	k.t.Helper()
	list := new(auth.SigningKeys)
	list.Set(keys)
	a, err := auth.New(list, auth.DefaultConfig())
	if err != nil {
		k.t.Fatal(err)
	}
	return a
}

func idIn(frame string) string {
	_, rest, _ := strings.Cut(frame, `"you":{"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// After a change of keys, every gateway accepts strings signed with the old key or the new key.
// One of the gateways in this test has not learned the new key yet.
func TestKeysChangeWithoutLosingASession(t *testing.T) {
	k := startKeyed(t)
	a, b := start(t, k.here), start(t, k.here)
	first := a.json("/ws").want(`{"hello":*"key_window_ms":*`)
	resume, id := resumeIn(t, first), idIn(first)
	before := k.list()
	k.rotate(false)
	after := k.list()
	if len(before) != 1 || len(after) != 2 || string(after[1].Secret) != string(before[0].Secret) {
		t.Fatalf("got %d keys, then %d; want one more, before the old one", len(before), len(after))
	}
	after[0].From = 0 // the new key signs at once
	next := k.signer(after[0]).SignPass(&auth.Pass{Who: proto.Identity{ID: id}, Issued: time.Now()})
	b.keys.Set(before) // b does not know the new key yet
	for _, g := range []*gateway{a, b} {
		for _, s := range []string{resume, next} {
			if got := idIn(g.open("/ws", "roomcast.v1, resume."+s).want(`{"hello":*`)); got != id {
				t.Errorf("got the id %s, want %s", got, id)
			}
		}
	}
}

// When the old keys have been removed, no gateway accepts strings that were signed with them.
// Open sessions stay open.
func TestReplacedKeysEndResumesAndTickets(t *testing.T) {
	k := startKeyed(t)
	a, b := start(t, k.here, noGuests), start(t, k.here, noGuests)
	guests := start(t, k.here)
	open := a.json("/ws?ticket=" + a.ticket("ann", `{"*":"read say"}`))
	resume := resumeIn(t, open.want(`{"hello":*`))
	ticket := a.ticket("ann", `{"*":"read say"}`)
	guest := guests.json("/ws").want(`{"hello":*`)
	before := k.list()
	k.rotate(true)
	old := k.signer(before...)
	probe := old.SignTicket(&auth.Ticket{Who: proto.Identity{ID: "x"}, Expires: time.Now().Add(time.Minute), Until: time.Now().Add(time.Minute)})
	for _, g := range []*gateway{a, b, guests} {
		eventually(t, "the gateway to know the new key", func() bool { return !g.auth.KnowsKeyOf(probe) })
	}
	for _, g := range []*gateway{a, b} {
		g.json("/ws?ticket=" + ticket).want("close 4103 *")
		c := g.open("/ws", "roomcast.v1, resume."+resume)
		c.send(`{"id":1,"ping":{}}`)
		c.want("close 4107 *")
	}
	if got := idIn(guests.open("/ws", "roomcast.v1, resume."+resumeIn(t, guest)).want(`{"hello":*`)); got == idIn(guest) {
		t.Error("a guest has the same identity after its key was replaced")
	}
	open.send(`{"id":1,"ping":{}}`)
	open.want(`{"id":1,"ok":{}}`)
	b.json("/ws?ticket=" + a.ticket("ann", `{"*":"read say"}`)).want(`{"hello":*`)
}

// Resume strings that name invented keys cause only a few requests to roomsvc. Meanwhile the
// gateway serves other clients.
func TestUnknownKeysCauseFewRequests(t *testing.T) {
	k := startKeyed(t)
	asked, err := k.nc.SubscribeSync(proto.SubjectKeys)
	if err != nil || k.nc.Flush() != nil {
		t.Fatal(err)
	}
	g := start(t, k.here)
	eventually(t, "the gateway to learn the keys", func() bool { n, _, _ := asked.Pending(); return n > 0 })
	learned, _, _ := asked.Pending()
	invented := func(i int) string {
		stranger := k.signer(proto.SigningKey{Secret: fmt.Appendf(nil, "%032d", i)})
		return stranger.SignPass(&auth.Pass{Who: proto.Identity{ID: "anon-x"}, Issued: time.Now()})
	}
	for i := range 100 {
		if got := idIn(g.open("/ws", "roomcast.v1, resume."+invented(i)).want(`{"hello":*`)); got == "anon-x" {
			t.Fatal("a forged string has an effect")
		}
	}
	// One request serves all the names. There are more only if the test takes many seconds.
	if n, _, _ := asked.Pending(); n-learned > 10 {
		t.Errorf("100 invented names caused %d requests", n-learned)
	}
}

// If the gateway cannot ask roomsvc for a key, it tells the client to reconnect later.
func TestUnknownKeyWithoutRoomsvc(t *testing.T) {
	k := startKeyed(t)
	g := start(t, k.here)
	k.stop()
	stranger := k.signer(proto.SigningKey{Secret: []byte(strings.Repeat("x", 32))})
	resume := stranger.SignPass(&auth.Pass{Who: proto.Identity{ID: "anon-x"}, Issued: time.Now()})
	g.open("/ws", "roomcast.v1, resume."+resume).want("close 4004 *")
	g.json("/ws").want(`{"hello":*`)
}
