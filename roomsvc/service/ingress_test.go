package service

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

func code(r *proto.Refusal) proto.Code {
	if r == nil {
		return ""
	}
	return r.Code
}

// NATS accepts these subjects, but the part after "room." is not a valid name of a room.
func TestHostileSubjectsAreRefused(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		srv := startNATS(t, mapped)
		_, stop := startService(t, srv)
		defer stop()
		nc, err := srv.Dial("hostile", nats.SkipSubjectValidation())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		for _, name := range []string{"a%2eb", "a%20b", "*", ">", "a*", "\x00", "\xff\xfe", "é" + strings.Repeat("x", 300), "🙂"} {
			msg := nats.NewMsg("room." + name)
			msg.Data = []byte("hi")
			if r := ask(t, nc, msg); code(r.Refusal) != proto.BadRoom {
				t.Errorf("%q: got %+v, want %s", name, r, proto.BadRoom)
			}
		}
		if r := say(t, nc, "lobby", "", "", "hi"); r.Seq != 1 {
			t.Errorf("a good message after them: got %+v", r)
		}
	})
}

func TestSealedMessagesStaySealedInTheLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	secret := make([]byte, 32)
	rand.Read(secret)
	if err := os.WriteFile(file, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := seal.Load([]string{file}, false)
	if err != nil {
		t.Fatal(err)
	}
	srv := startNATS(t, true)
	_, stop := startService(t, srv, func(c *Config) { c.Keys = keys })
	defer stop()
	nc := srv.Connect(t)
	room := proto.MustRoom("lobby")
	sealed := func(key, text string) *nats.Msg {
		msg := message("lobby", "u", key, "")
		msg.Data = keys.Seal(room, seal.In, seal.Headers(msg.Header), []byte(text))
		msg.Header.Set(proto.HeaderEnc, seal.Mark)
		return msg
	}
	msg := sealed("k", "secret words")
	if r := ask(t, nc, msg); r.Seq != 1 {
		t.Fatalf("got %+v", r)
	}
	rec := readLog(t, srv, room)[0]
	if strings.Contains(string(rec.Payload), "secret") {
		t.Error("the log holds plain text")
	}
	if err := keys.OpenRecord(&rec, rec.Header()); err != nil || !strings.Contains(string(rec.Payload), `"text":"secret words"`) {
		t.Errorf("got %s, %v", rec.Payload, err)
	}
	// A sealed message can be opened only with the room and the headers with which it was sealed.
	elsewhere := message("hall", "u", "k", string(msg.Data))
	elsewhere.Header.Set(proto.HeaderEnc, seal.Mark)
	forged := sealed("k3", "hi")
	forged.Header.Set(proto.HeaderFrom, "mallory")
	for name, msg := range map[string]*nats.Msg{"another room": elsewhere, "another sender": forged} {
		if r := ask(t, nc, msg); code(r.Refusal) != proto.BadRequest {
			t.Errorf("%s: got %+v, want %s", name, r, proto.BadRequest)
		}
	}
	// A sealed line may be a close word.
	if r := ask(t, nc, sealed("k2", "关闭")); r.Close != proto.CloseNormal {
		t.Errorf("got %+v, want a close", r)
	}

	// A service without the key fails when it starts. Otherwise the service would start, but would
	// refuse every message.
	stop()
	cfg := DefaultConfig()
	cfg.Dial = srv.Dial
	without, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := without.Run(t.Context()); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the key: got %v, want %v", err, seal.ErrNoKey)
	}
}
