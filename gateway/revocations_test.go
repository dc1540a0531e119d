package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/gateway/auth"
	"roomcast/gateway/bridge"
	"roomcast/proto"
	"roomcast/proto/natstest"
)

// A full list of revocations reaches a gateway that starts later. Its first ids are those that need
// most bytes in JSON. The room service refuses one more revocation.
func TestFullListOfRevocationsReachesEveryGateway(t *testing.T) {
	ns := startServer(t, &natsserver.Options{JetStream: true, StoreDir: t.TempDir()})
	dial := func(name string, more ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name)}, more...)...)
	}
	serveRooms(t, dial)
	issued := time.Now().Add(-time.Minute)
	id := func(i int) string {
		number := fmt.Sprint(i)
		if i >= 3000 {
			return number
		}
		return strings.Repeat("<", proto.MaxIDBytes-len(number)) + number
	}

	// Storing so many revocations one by one would take minutes, so the test writes them itself.
	nc := connectTo(t, ns)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for i := range proto.MaxRevocations - 1 {
		e := proto.Revocation{ID: id(i), At: time.Now().UnixMilli()}
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishAsync(fmt.Sprintf("$KV.%s.%d", proto.RevokedBucket, i), body, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(5 * time.Minute):
		t.Fatal("the revocations are not stored")
	}

	revoked := new(auth.Revocations)
	b := runBridge(t, dial, func(c *bridge.Config) { c.Revoked = revoked })
	last := id(proto.MaxRevocations - 1)
	if _, err := b.Revoke(t.Context(), proto.Revocation{ID: last}); err != nil {
		t.Fatalf("revoke the last id of a full list: %v", err)
	}
	if _, err := b.Revoke(t.Context(), proto.Revocation{ID: "ann"}); proto.AsRefusal(err).Code != proto.Overloaded {
		t.Errorf("revoke one more id: got %v, want %s", err, proto.Overloaded)
	}
	for _, id := range []string{id(0), id(proto.MaxRevocations / 2), last} {
		if err := revoked.Check(id, "", issued); proto.AsRefusal(err).Code != proto.Unauthorized {
			t.Errorf("check a credential of a revoked id: got %v, want %s", err, proto.Unauthorized)
		}
	}
	if err := revoked.Check("ann", "", issued); err != nil {
		t.Errorf("check a credential of another id: got %v", err)
	}
}

// A gateway finds a revocation even if NATS has lost the message about it, and the gateway's
// connection was not interrupted.
func TestGatewayFindsARevocationWithoutItsMessage(t *testing.T) {
	ns := startServer(t, &natsserver.Options{JetStream: true, StoreDir: t.TempDir()})
	dial := func(name string, more ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name)}, more...)...)
	}
	serveRooms(t, dial)
	issued := time.Now().Add(-time.Minute)
	revoked := new(auth.Revocations)
	runBridge(t, dial, func(c *bridge.Config) { c.Revoked = revoked })
	js, err := jetstream.New(connectTo(t, ns))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"ann", "ben"} {
		body, err := json.Marshal(proto.Revocation{ID: id, At: time.Now().UnixMilli()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "$KV."+proto.RevokedBucket+"."+id, body); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, "the revocation of "+id, func() bool { return revoked.Check(id, "", issued) != nil })
	}
}
