package service

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

func TestReadCommand(t *testing.T) {
	long := strings.Repeat("x", 1000)
	type headers map[string]string
	for name, c := range map[string]struct {
		headers headers
		body    string
		want    proto.Code // "" = taken
	}{
		"bare":             {nil, "hi", ""},
		"empty":            {nil, "", ""},
		"not UTF-8":        {nil, "\xff\xfe", proto.BadRequest},
		"bytes":            {headers{proto.HeaderKind: "bin"}, "\xff\xfe", ""},
		"data":             {headers{proto.HeaderKind: "data", proto.HeaderType: "xx.oo"}, `{"a":[1]}`, ""},
		"broken data":      {headers{proto.HeaderKind: "data"}, `{"a":`, proto.BadRequest},
		"data twice":       {headers{proto.HeaderKind: "data"}, `{"a":1,"a":2}`, proto.BadRequest},
		"deep data":        {headers{proto.HeaderKind: "data"}, strings.Repeat("[", 10_000), proto.BadRequest},
		"no data":          {headers{proto.HeaderKind: "data"}, ``, proto.BadRequest},
		"unknown kind":     {headers{proto.HeaderKind: "song"}, "la", proto.BadRequest},
		"forged id":        {headers{proto.HeaderFrom: "a b"}, "hi", proto.BadRequest},
		"id with newline":  {headers{proto.HeaderFrom: "a\x01b"}, "hi", proto.BadRequest},
		"huge id":          {headers{proto.HeaderFrom: long}, "hi", proto.TooLarge},
		"huge key":         {headers{proto.HeaderKey: long}, "hi", proto.TooLarge},
		"key with space":   {headers{proto.HeaderKey: "a b"}, "hi", proto.BadRequest},
		"key not ASCII":    {headers{proto.HeaderKey: "ключ"}, "hi", proto.BadRequest},
		"huge name":        {headers{proto.HeaderName: long}, "hi", proto.TooLarge},
		"turning name":     {headers{proto.HeaderName: proto.EscapeHeader("a\u202eb")}, "hi", proto.BadRequest},
		"name":             {headers{proto.HeaderName: proto.EscapeHeader("小明")}, "hi", ""},
		"another spelling": {headers{proto.HeaderName: "小明"}, "hi", proto.BadRequest},
		"bad type":         {headers{proto.HeaderType: "<b>"}, "hi", proto.BadRequest},
		"huge message":     {nil, strings.Repeat("x", 65<<10), proto.TooLarge},
		"act":              {headers{proto.HeaderKind: "close"}, "why", ""},
		"act with a novel": {headers{proto.HeaderKind: "close"}, long, proto.TooLarge},
		"sealed, no key":   {headers{proto.HeaderEnc: "1"}, "hi", proto.Unsupported},
		"foreign headers":  {headers{"Nats-Rollup": "all", "X-Y": "z"}, "hi", ""},
	} {
		msg := nats.NewMsg("room.lobby")
		msg.Data = []byte(c.body)
		for k, v := range c.headers {
			msg.Header.Set(k, v)
		}
		_, r := readCommand(msg, proto.MustRoom("lobby"), nil, 64<<10)
		if got := code(r); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	twice := nats.NewMsg("room.lobby")
	twice.Header[proto.HeaderFrom] = []string{"a", "b"}
	if _, r := readCommand(twice, proto.MustRoom("lobby"), nil, 64<<10); code(r) != proto.BadRequest {
		t.Errorf("a header twice: got %v", r)
	}
}

func code(r *proto.Refusal) proto.Code {
	if r == nil {
		return ""
	}
	return r.Code
}

func FuzzReadCommand(f *testing.F) {
	f.Add("text", "u", "n", "k", "t", "hi")
	f.Add("close", "", "", "", "", "why")
	f.Fuzz(func(t *testing.T, kind, from, name, key, typ, body string) {
		msg := nats.NewMsg("room.lobby")
		msg.Data = []byte(body)
		for k, v := range map[string]string{proto.HeaderKind: kind, proto.HeaderFrom: from, proto.HeaderName: name,
			proto.HeaderKey: key, proto.HeaderType: typ} {
			msg.Header.Set(k, v)
		}
		c, r := readCommand(msg, proto.MustRoom("lobby"), nil, 1<<10)
		if r != nil {
			return
		}
		e := proto.Event{Room: proto.MustRoom("lobby"), Seq: 1, At: time.UnixMilli(0), From: c.From, Content: c.Content, Why: c.Why}
		if _, err := proto.ParseEvent(e.AppendJSON(nil)); err != nil {
			t.Errorf("what was taken in cannot be read again: %v", err)
		}
	})
}

// TestHostileSubjects publishes to names that NATS lets pass and no room has.
func TestHostileSubjects(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		srv := startNATS(t, mapped)
		_, stop := startService(t, srv)
		defer stop()
		nc, err := dialer(srv)("hostile", nats.SkipSubjectValidation())
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
			t.Errorf("an honest message afterwards: got %+v", r)
		}
	})
}

func TestSealedMessages(t *testing.T) {
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
	nc := connect(t, srv)
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
	// An envelope opens only in its room and under its headers.
	elsewhere := message("hall", "u", "k", string(msg.Data))
	elsewhere.Header.Set(proto.HeaderEnc, seal.Mark)
	forged := sealed("k3", "hi")
	forged.Header.Set(proto.HeaderFrom, "mallory")
	for name, msg := range map[string]*nats.Msg{"another room": elsewhere, "another sender": forged} {
		if r := ask(t, nc, msg); code(r.Refusal) != proto.BadRequest {
			t.Errorf("%s: got %+v, want %s", name, r, proto.BadRequest)
		}
	}
	// A close word may be sealed too.
	if r := ask(t, nc, sealed("k2", "关闭")); r.Close != proto.CloseNormal {
		t.Errorf("got %+v, want a close", r)
	}

	// Who has not got the key is told so at the start, and not everybody who comes.
	stop()
	cfg := DefaultConfig()
	cfg.Dial = dialer(srv)
	without, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := without.Run(t.Context()); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the key: got %v, want %v", err, seal.ErrNoKey)
	}
}
