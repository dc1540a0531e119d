package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
)

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

// guarded lists protected subjects that a gateway could name as a reply subject. A gateway
// receives its own answers on similar subjects, so the permissions allow this. But the real
// subjects of other gateways end in a token that an attacker cannot guess.
var guarded = []string{"room.ack.victim.x", "_INBOX_roomsvc.x"}

// nothingIsHeard makes each attacker try to write on each protected subject. The attacker
// publishes a message there. It also uses the subject as the reply subject of each request, and
// as the destination of a message trace. The observer, in the account ROOMS, must receive none of
// these messages.
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
			answered := func() bool {
				if err := a.nc.PublishRequest(ask, strings.Replace(a.answers, "*", "1", 1), []byte(body)); err != nil {
					t.Fatal(err)
				}
				_, err := answers.NextMsg(time.Second)
				return err == nil
			}
			if ask == "room.deputy" {
				natstest.Eventually(t, "the answer to "+a.name, answered)
			} else {
				answered() // waits a moment for an answer; there may be none
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
		serveRooms(t, dialRoomsvc(ns), toldToShop)
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
