package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"roomcast/proto"
)

// The command makes tokens with every kind of key, and a gateway accepts them.
func TestMintedTokensAreAccepted(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef\n")
	keys := map[string][2][]byte{"secret": {secret, secret}}
	add := func(name string, private crypto.Signer, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = [2][]byte{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), publicPEM(t, private.Public())}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	add("Ed25519", ed, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	add("P-384", p384, err)
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	add("RSA", long, err)
	sec1, err := x509.MarshalECPrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	keys["SEC 1"] = [2][]byte{pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}), keys["P-384"][1]}
	keys["PKCS 1"] = [2][]byte{pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(long)}), keys["RSA"][1]}
	for name, pair := range keys {
		cfg := DefaultConfig()
		cfg.KeyFiles, cfg.Issuers, cfg.Audiences = []string{writeKey(t, pair[1])}, []string{"https://id"}, []string{"chat"}
		m := Mint{Key: pair[0], Subject: "ann", Name: "Ann", Issuer: "https://id", Audience: "chat", Rooms: []string{"team-*=read", "say"}, TTL: time.Hour}
		token, err := m.Token(time.Now())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h, err := newAuth(t, cfg).Token(token)
		if err != nil || h.Who != (proto.Identity{ID: "ann", Name: "Ann"}) {
			t.Errorf("%s: got %+v, %v", name, h, err)
			continue
		}
		if team, other := h.Grant.Of(proto.MustRoom("team-1"), "ann"), h.Grant.Of(proto.MustRoom("other"), "ann"); team != proto.MayRead || other != proto.MaySay {
			t.Errorf("%s: got the rights %b and %b", name, team, other)
		}
	}
	m := Mint{Key: []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), Subject: "ann", TTL: time.Hour}
	if _, err := m.Token(time.Now()); err == nil {
		t.Error("a public key signed a token")
	}
}
