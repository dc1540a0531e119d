package service

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

func keysOf(t *testing.T, nc *nats.Conn, revision uint64) proto.Keys {
	t.Helper()
	body, err := json.Marshal(proto.AskKeys{Revision: revision})
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request(proto.SubjectKeys, body, 20*time.Second)
	var keys proto.Keys
	if err == nil {
		err = json.Unmarshal(m.Data, &keys)
	}
	if err != nil || keys.Error != "" {
		t.Fatalf("got %+v, %v, want keys", keys, err)
	}
	return keys
}

func sameKeys(a, b []proto.SigningKey) bool {
	return slices.EqualFunc(a, b, func(a, b proto.SigningKey) bool { return string(a.Secret) == string(b.Secret) && a.From == b.From })
}

func rotate(t *testing.T, srv *natstest.Server, now bool) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dial, cfg.Log = srv.Dial, slog.New(slog.DiscardHandler)
	if err := RotateKeys(t.Context(), cfg, now); err != nil {
		t.Fatal(err)
	}
}

// All instances return the same keys, even after a restart. The announcement of a change contains
// only the revision of the keys and no keys. A gateway then requests the keys of that revision.
func TestInstancesShareTheSigningKeys(t *testing.T) {
	dir := t.TempDir()
	srv := startNATS(t, true, func(o *server.Options) { o.StoreDir = dir })
	_, stop := startService(t, srv)
	_, stopSecond := startService(t, srv)
	nc := srv.Connect(t)
	told, err := nc.SubscribeSync(proto.SubjectKeysChanged)
	if err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	first := keysOf(t, nc, 0)
	for range 10 {
		if again := keysOf(t, nc, 0); len(again.List) != 1 || !sameKeys(again.List, first.List) || again.Imported {
			t.Fatalf("got %d keys, want the same key as before", len(again.List))
		}
	}
	rotate(t, srv, false)
	m, err := told.NextMsg(20 * time.Second)
	var announced proto.KeysChanged
	if err == nil {
		err = json.Unmarshal(m.Data, &announced)
	}
	if err != nil || announced.Revision <= first.Revision || len(m.Data) > 40 {
		t.Fatalf("got %+v, %v, want only the revision", m, err)
	}
	second := keysOf(t, nc, announced.Revision)
	if len(second.List) != 2 || !sameKeys(second.List[1:], first.List) || string(second.Resume) != string(first.List[0].Secret) {
		t.Errorf("got %d keys, want another before the old one", len(second.List))
	}
	if newest := time.UnixMilli(second.List[0].From); !newest.After(time.Now()) {
		t.Errorf("the new key signs from %v on, before all gateways know it", newest)
	}
	stop()
	stopSecond()
	srv.Shutdown()
	srv.WaitForShutdown()
	srv = startNATS(t, true, func(o *server.Options) { o.StoreDir = dir })
	startService(t, srv)
	nc = srv.Connect(t)
	if again := keysOf(t, nc, 0); !sameKeys(again.List, second.List) {
		t.Errorf("after a restart: got %d other keys", len(again.List))
	}
	rotate(t, srv, true)
	third := keysOf(t, nc, second.Revision+1)
	if len(third.List) != 1 || slices.ContainsFunc(second.List, func(k proto.SigningKey) bool { return string(k.Secret) == string(third.List[0].Secret) }) {
		t.Errorf("got %d keys, want only a new one", len(third.List))
	}
}

// The key that version 0.1.0 has stored stays valid, so clients of that version keep their
// identities. After an operator has replaced the keys, the bucket no longer contains this old key.
func TestKeyOfVersion010RemainsValid(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: proto.SecretBucket, Storage: jetstream.FileStorage, History: 1})
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte(strings.Repeat("s", 32))
	if _, err := kv.Create(t.Context(), proto.FirstSecret, secret); err != nil {
		t.Fatal(err)
	}
	startService(t, srv)
	if keys := keysOf(t, nc, 0); len(keys.List) != 1 || string(keys.List[0].Secret) != string(secret) || string(keys.Resume) != string(secret) {
		t.Errorf("got %+v, want only the old secret", keys)
	}
	rotate(t, srv, true)
	if _, err := kv.Get(t.Context(), proto.FirstSecret); err == nil {
		t.Error("the replaced key is still stored")
	}
	bad := []byte("short")
	if _, err := kv.Put(t.Context(), proto.SecretKey, bad); err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request(proto.SubjectKeys, nil, 20*time.Second)
	if err != nil || strings.Contains(string(m.Data), "short") || !strings.Contains(string(m.Data), `"error"`) {
		t.Errorf("a damaged list: got %s, %v", m.Data, err)
	}
}

// The service makes a new key every week. It keeps an old key as long as a string that the key has
// signed may be valid.
func TestNewKeyIsMadeEveryWeek(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	list := []proto.SigningKey{newKey(now)}
	for range 20 {
		now = now.Add(keyAge)
		list = addKey(list, now.Add(keyLead), now)
		if newest := time.UnixMilli(list[0].From); !newest.Equal(now.Add(keyLead)) {
			t.Fatalf("the newest key signs from %v on, want %v", newest, now.Add(keyLead))
		}
		for i := 1; i < len(list); i++ {
			if last := time.UnixMilli(list[i-1].From).Add(proto.MaxCredential); i == len(list)-1 && now.Sub(last) > keyAge+24*time.Hour {
				t.Fatalf("key %d of %d is kept although its last string expired at %v, and it is %v", i, len(list), last, now)
			}
		}
	}
	if len(list) < 5 || len(list) > 7 {
		t.Errorf("got %d keys, want the keys of a month", len(list))
	}
}
