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

func TestSealed(t *testing.T) {
	k := keys(t, 1)
	for _, plain := range [][]byte{nil, []byte("hi"), bytes.Repeat([]byte("long "), 20_000)} {
		sealed := k.Seal(lobby, seal.In, plain)
		if len(plain) > 0 && bytes.Contains(sealed, plain) {
			t.Errorf("%d bytes can be read in their envelope", len(plain))
		}
		if got, want := len(sealed), len(plain)+45; got != want {
			t.Errorf("envelope of %d bytes, want %d", got, want)
		}
		got, err := k.Open(lobby, seal.In, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("opened %d bytes, %v, want %d", len(got), err, len(plain))
		}
	}
	if bytes.Equal(k.Seal(lobby, seal.In, []byte("hi")), k.Seal(lobby, seal.In, []byte("hi"))) {
		t.Error("two envelopes of one message are equal")
	}
}

func TestNoKeys(t *testing.T) {
	var none *seal.Keys
	if got := none.Seal(lobby, seal.In, []byte("hi")); string(got) != "hi" {
		t.Errorf("nil keys sealed %q", got)
	}
	if _, err := none.Open(lobby, seal.In, keys(t, 1).Seal(lobby, seal.In, []byte("hi"))); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("nil keys opened: %v", err)
	}
	if k, err := seal.Load(nil); k != nil || err != nil {
		t.Errorf("Load of nothing: %v, %v", k, err)
	}
}

func TestRotation(t *testing.T) {
	before, during, after := keys(t, 1), keys(t, 2, 1), keys(t, 2)
	old := before.Seal(lobby, seal.Log, []byte("old"))
	if got, err := during.Open(lobby, seal.Log, old); err != nil || string(got) != "old" {
		t.Errorf("second key: %q, %v", got, err)
	}
	recent := during.Seal(lobby, seal.Log, []byte("new"))
	if got, err := after.Open(lobby, seal.Log, recent); err != nil || string(got) != "new" {
		t.Errorf("first key must seal: %q, %v", got, err)
	}
	if _, err := after.Open(lobby, seal.Log, old); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("a dropped key still opens: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	k := keys(t, 1)
	sealed := k.Seal(lobby, seal.In, []byte("hello"))
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x80
		if _, err := k.Open(lobby, seal.In, bad); err == nil {
			t.Fatalf("opened with byte %d changed", i)
		}
	}
	for n := range sealed {
		if _, err := k.Open(lobby, seal.In, sealed[:n]); err == nil {
			t.Fatalf("opened %d of %d bytes", n, len(sealed))
		}
	}
	if _, err := k.Open(attic, seal.In, sealed); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("another room: %v", err)
	}
	if _, err := k.Open(lobby, seal.Log, sealed); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("another purpose: %v", err)
	}
	if _, err := k.Open(lobby, seal.In, []byte("hello")); !errors.Is(err, seal.ErrEnvelope) {
		t.Errorf("plain text: %v", err)
	}
}

func TestLoad(t *testing.T) {
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
	sealed := want.Seal(lobby, seal.In, []byte("hi"))
	for name, content := range map[string]string{
		"raw":             string(secret),
		"base64":          base64.StdEncoding.EncodeToString(secret) + "\n",
		"base64, url":     base64.RawURLEncoding.EncodeToString(secret),
		"hex":             hex.EncodeToString(secret) + "\r\n",
		"hex, upper case": strings.ToUpper(hex.EncodeToString(secret)),
	} {
		k, err := seal.Load([]string{file(content)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := k.Open(lobby, seal.In, sealed); err != nil {
			t.Errorf("%s: not the same secret: %v", name, err)
		}
	}
	for name, content := range map[string]string{
		"empty":        " \n",
		"a passphrase": "correct horse battery staple, and so on and on",
		"short":        base64.StdEncoding.EncodeToString(secret[:16]),
		"short, raw":   string(secret[:31]),
		"huge":         strings.Repeat("\x80", 20_000),
	} {
		_, err := seal.Load([]string{file(content)})
		if err == nil || !strings.Contains(err.Error(), "head -c 32 /dev/urandom | base64") {
			t.Errorf("%s: error %v does not say how to make a key", name, err)
		}
	}
	if _, err := seal.Load([]string{filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	same := file(string(secret))
	if _, err := seal.Load([]string{same, same}); err == nil {
		t.Error("the same key twice was taken")
	}
}

func FuzzOpen(f *testing.F) {
	k, err := seal.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Seal(lobby, seal.In, []byte("hi")))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if plain, err := k.Open(attic, seal.In, sealed); err == nil {
			t.Errorf("forged %q", plain)
		}
	})
}
