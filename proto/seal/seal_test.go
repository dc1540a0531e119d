package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/seal"
)

var (
	lobby = proto.MustRoom("lobby")
	attic = proto.MustRoom("attic")
)

func keys(t *testing.T, fill ...byte) *seal.Keys {
	t.Helper()
	var secrets [][]byte
	for _, b := range fill {
		secrets = append(secrets, bytes.Repeat([]byte{b}, 32))
	}
	k, err := seal.New(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedPayloadOpensAgain(t *testing.T) {
	k := keys(t, 1)
	for _, plain := range [][]byte{nil, []byte("hi"), bytes.Repeat([]byte("long "), 20_000)} {
		sealed := k.Seal(lobby, seal.In, "", plain)
		if len(plain) > 0 && bytes.Contains(sealed, plain) {
			t.Errorf("%d bytes can be read in their envelope", len(plain))
		}
		if got, want := len(sealed), len(plain)+45; got != want {
			t.Errorf("envelope of %d bytes, want %d", got, want)
		}
		got, err := k.Open(lobby, seal.In, "", sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("opened %d bytes, %v, want %d", len(got), err, len(plain))
		}
	}
	if bytes.Equal(k.Seal(lobby, seal.In, "", []byte("hi")), k.Seal(lobby, seal.In, "", []byte("hi"))) {
		t.Error("two envelopes of one message are equal")
	}
}

func TestNilKeysSealNothing(t *testing.T) {
	var none *seal.Keys
	if got := none.Seal(lobby, seal.In, "", []byte("hi")); string(got) != "hi" {
		t.Errorf("nil keys sealed %q", got)
	}
	if _, err := none.Open(lobby, seal.In, "", keys(t, 1).Seal(lobby, seal.In, "", []byte("hi"))); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("nil keys opened: %v", err)
	}
	if k, err := seal.Load(nil, false); k != nil || err != nil {
		t.Errorf("Load of nothing: %v, %v", k, err)
	}
}

func TestRotatedKeysOpenOldPayloads(t *testing.T) {
	before, during, after := keys(t, 1), keys(t, 2, 1), keys(t, 2)
	old := before.Seal(lobby, seal.Log, "", []byte("old"))
	if got, err := during.Open(lobby, seal.Log, "", old); err != nil || string(got) != "old" {
		t.Errorf("second key: %q, %v", got, err)
	}
	recent := during.Seal(lobby, seal.Log, "", []byte("new"))
	if got, err := after.Open(lobby, seal.Log, "", recent); err != nil || string(got) != "new" {
		t.Errorf("first key must seal: %q, %v", got, err)
	}
	if _, err := after.Open(lobby, seal.Log, "", old); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("a dropped key still opens: %v", err)
	}
}

func TestOpenRefusesChangedEnvelopes(t *testing.T) {
	k := keys(t, 1)
	sealed := k.Seal(lobby, seal.In, "", []byte("hello"))
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x80
		if _, err := k.Open(lobby, seal.In, "", bad); err == nil {
			t.Fatalf("opened with byte %d changed", i)
		}
	}
	for n := range sealed {
		if _, err := k.Open(lobby, seal.In, "", sealed[:n]); err == nil {
			t.Fatalf("opened %d of %d bytes", n, len(sealed))
		}
	}
	if _, err := k.Open(attic, seal.In, "", sealed); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("another room: %v", err)
	}
	if _, err := k.Open(lobby, seal.Log, "", sealed); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("another purpose: %v", err)
	}
	if _, err := k.Open(lobby, seal.In, "Rc-From:mallory\n", sealed); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("other headers: %v", err)
	}
	if _, err := k.Open(lobby, seal.In, "", []byte("hello")); !errors.Is(err, seal.ErrEnvelope) {
		t.Errorf("plain text: %v", err)
	}
}

// record returns a sealed record, and the value of its header.
func record(k *seal.Keys) (proto.Record, string) {
	e := proto.Event{Room: lobby, Seq: 1, At: time.UnixMilli(1), Epoch: "e1", From: proto.Identity{ID: "ann"},
		Content: proto.Content{Kind: proto.Text, Body: []byte("hello")}}
	r := proto.Record{Room: lobby, Seq: 1, From: "ann", Sealed: true, State: proto.State{Epoch: "e1", At: e.At}}
	r.Payload, r.Text = e.AppendRecord(nil)
	header := r.Header()
	r.Payload = k.Seal(lobby, seal.Log, header, r.Payload)
	return r, header
}

func TestRecordOpensOnlyUnderItsOwnHeader(t *testing.T) {
	k := keys(t, 1)
	r, header := record(k)
	if err := k.OpenRecord(&r, header); err != nil {
		t.Fatal(err)
	}
	if text, _, err := r.Text.Text(r.Payload); err != nil || string(text) != "hello" {
		t.Errorf("text %q, %v", text, err)
	}
	for name, change := range map[string]func(*proto.Record){
		"seq":    func(r *proto.Record) { r.Seq = 2 },
		"epoch":  func(r *proto.Record) { r.State.Epoch = "e2" },
		"kind":   func(r *proto.Record) { r.Kind = proto.Closed },
		"sender": func(r *proto.Record) { r.From = "bob" },
		"key":    func(r *proto.Record) { r.Key = "k" },
		"closed": func(r *proto.Record) { r.State.Closed = true },
		"text":   func(r *proto.Record) { r.Text.At++ },
	} {
		r, _ := record(k)
		change(&r)
		if err := k.OpenRecord(&r, r.Header()); !errors.Is(err, seal.ErrTampered) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestKeysRefusePlainRecords(t *testing.T) {
	k := keys(t, 1)
	r := proto.Record{Room: lobby, Payload: []byte("{}")}
	if err := k.OpenRecord(&r, ""); !errors.Is(err, seal.ErrPlain) {
		t.Errorf("got %v, want ErrPlain", err)
	}
	k.AcceptPlain = true
	if err := k.OpenRecord(&r, ""); err != nil {
		t.Errorf("with plain records allowed: %v", err)
	}
	var none *seal.Keys
	if err := none.OpenRecord(&r, ""); err != nil {
		t.Errorf("without keys: %v", err)
	}
}

func TestDigestsDependOnTheKeys(t *testing.T) {
	var none *seal.Keys
	body := []byte("text\x00\x00hi")
	old, both := keys(t, 1).Digests(body), keys(t, 2, 1).Digests(body)
	if len(old) != 1 || len(both) != 2 || both[1] != old[0] || both[0] == old[0] {
		t.Errorf("digests %x with one key, %x with a newer one", old, both)
	}
	if plain := none.Digests(body); plain[0] == old[0] {
		t.Error("the digest does not depend on the key")
	}
	if keys(t, 1).Digests([]byte("text\x00\x00ho"))[0] == old[0] {
		t.Error("two texts have one digest")
	}
}

func TestLoadReadsThreeForms(t *testing.T) {
	secret := bytes.Repeat([]byte{0xfe, 1, 0x80, 7}, 8)
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	want, err := seal.New(secret)
	if err != nil {
		t.Fatal(err)
	}
	sealed := want.Seal(lobby, seal.In, "", []byte("hi"))
	for name, content := range map[string]string{
		"raw":             string(secret),
		"base64":          base64.StdEncoding.EncodeToString(secret) + "\n",
		"base64, url":     base64.RawURLEncoding.EncodeToString(secret),
		"hex":             hex.EncodeToString(secret) + "\r\n",
		"hex, upper case": strings.ToUpper(hex.EncodeToString(secret)),
	} {
		k, err := seal.Load([]string{file(content)}, false)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := k.Open(lobby, seal.In, "", sealed); err != nil {
			t.Errorf("%s: Load reads another secret: %v", name, err)
		}
	}
	for name, content := range map[string]string{
		"empty":        " \n",
		"a passphrase": "correct horse battery staple, and so on and on",
		"short":        base64.StdEncoding.EncodeToString(secret[:16]),
		"short, raw":   string(secret[:31]),
		"huge":         strings.Repeat("\x80", 20_000),
	} {
		_, err := seal.Load([]string{file(content)}, false)
		if err == nil || !strings.Contains(err.Error(), "head -c 32 /dev/urandom | base64") {
			t.Errorf("%s: error %v does not say how to make a key", name, err)
		}
	}
	if _, err := seal.Load([]string{filepath.Join(t.TempDir(), "none")}, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	same := file(string(secret))
	if _, err := seal.Load([]string{same, same}, false); err == nil {
		t.Error("Load accepts the same key twice")
	}
}

func FuzzOpen(f *testing.F) {
	k, err := seal.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Seal(lobby, seal.In, "", []byte("hi")))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if plain, err := k.Open(attic, seal.In, "", sealed); err == nil {
			t.Errorf("forged %q", plain)
		}
	})
}
