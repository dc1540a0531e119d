package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/proto"
)

var testSecret = []byte("sixteen bytes or more of secret")

func newAuth(t *testing.T, cfg Config) *Auth {
	t.Helper()
	a, err := New(NewSigningKeys(testSecret), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOnlyOwnAndAllowedOriginsPass(t *testing.T) {
	cfg := DefaultConfig()
	cfg.AllowOrigins = []string{"https://chat.example.org", "http://app.example.org:8080"}
	a := newAuth(t, cfg)
	for _, tt := range []struct {
		origin, host string
		ok           bool
	}{
		{"", "chat.example.com", true}, // the client is not a browser
		{"http://rooms.example.com:8000", "rooms.example.com:8000", true},
		{"https://rooms.example.com", "rooms.example.com", true}, // the gateway is behind a proxy that ends TLS
		{"http://rooms.example.com:8000", "rooms.example.com", false},
		{"http://localhost:3000", "127.0.0.1:8000", true},
		{"http://[::1]:3000", "localhost:8000", true},
		{"http://localhost:3000", "rooms.example.com", false}, // a page on the client's own machine, which is not the gateway's
		{"https://chat.example.org", "rooms.example.com", true},
		{"HTTPS://CHAT.example.org:443", "rooms.example.com", true}, // the same origin in another spelling
		{"http://chat.example.org", "rooms.example.com", false},     // another scheme
		{"https://chat.example.org.evil.net", "rooms.example.com", false},
		{"https://evil-chat.example.org", "rooms.example.com", false},
		{"https://chat.example.org@evil.net", "rooms.example.com", false},
		{"https://evil.net/https://chat.example.org", "rooms.example.com", false},
		{"http://app.example.org", "rooms.example.com", false}, // another port
		{"null", "rooms.example.com", false},                   // the origin of sandboxed frames and of files
		{"null", "null", false},
		{"http://127.0.0.1.evil.net", "127.0.0.1:8000", false},
		{"http://localhost.evil.net", "localhost:8000", false},
		{"file://", "localhost:8000", false},
		{"https://", "", false},
	} {
		err := a.CheckOrigin(tt.origin, Site{Host: tt.host})
		if (err == nil) != tt.ok {
			t.Errorf("origin %q at host %q: got %v, want ok %v", tt.origin, tt.host, err, tt.ok)
		}
		if err != nil && !errors.Is(err, ErrOrigin) {
			t.Errorf("origin %q: got %v, want an ErrOrigin", tt.origin, err)
		}
	}
	// The refusal names the origin as the browser has sent it.
	for origin, part := range map[string]string{
		"http://evil.example": "operator can allow them with --allow-origin http://evil.example", "https://evil.example": "--allow-origin https://evil.example",
		"http://evil.example:8080": "--allow-origin http://evil.example:8080", "null": "files and of sandboxed frames",
	} {
		if err := a.CheckOrigin(origin, Site{Host: "rooms.example.com"}); err == nil || !strings.HasSuffix(err.Error(), part) {
			t.Errorf("origin %q: got %v, want an error that ends with %s", origin, err, part)
		}
	}
}

// If the gateway uses TLS, a page that was loaded over plain http is another site.
func TestPlainHTTPPageIsAnotherSiteWithTLS(t *testing.T) {
	cfg := DefaultConfig()
	cfg.HTTPS = true
	a := newAuth(t, cfg)
	for origin, ok := range map[string]bool{
		"https://chat": true, "https://chat:443": true, "http://chat": false, "http://chat:443": false, "http://chat:80": false,
	} {
		for _, host := range []string{"chat", "chat:443"} {
			if err := a.CheckOrigin(origin, Site{Host: host}); (err == nil) != ok {
				t.Errorf("origin %s at host %s: got %v, want ok %v", origin, host, err, ok)
			}
		}
	}
}

// A trusted proxy says which scheme the client has used.
func TestProxyNamesTheScheme(t *testing.T) {
	cfg := DefaultConfig()
	plain := newAuth(t, cfg)
	cfg.HTTPS = true
	tls := newAuth(t, cfg)
	for _, tt := range []struct {
		origin, scheme string
		ok             bool
	}{
		{"https://chat", "https", true}, {"http://chat", "https", false}, {"http://chat", "http", true}, {"https://chat", "http", false},
	} {
		for _, a := range []*Auth{plain, tls} {
			if err := a.CheckOrigin(tt.origin, Site{tt.scheme, "chat"}); (err == nil) != tt.ok {
				t.Errorf("origin %s at %s: got %v, want ok %v", tt.origin, tt.scheme, err, tt.ok)
			}
		}
	}
}

// Applications for desktops and phones have origins with their own schemes.
func TestAllowedOriginMayHaveAnyScheme(t *testing.T) {
	cfg := DefaultConfig()
	cfg.AllowOrigins = []string{"capacitor://localhost", "chrome-extension://abcdef"}
	a := newAuth(t, cfg)
	for origin, ok := range map[string]bool{
		"capacitor://localhost": true, "Capacitor://LOCALHOST": true, "chrome-extension://abcdef": true,
		"chrome-extension://other": false, "ionic://localhost": false, "http://localhost": false, "https://abcdef": false,
	} {
		if err := a.CheckOrigin(origin, Site{Host: "rooms.example.com"}); (err == nil) != ok {
			t.Errorf("origin %s: got %v, want ok %v", origin, err, ok)
		}
		if err := newAuth(t, DefaultConfig()).CheckOrigin(origin, Site{Host: "rooms.example.com"}); err == nil {
			t.Errorf("origin %s is allowed although the flag does not name it", origin)
		}
	}
	if err := a.CheckOrigin("ionic://localhost", Site{Host: "localhost:8000"}); err == nil {
		t.Error("an application passes as a page of this machine")
	}
}

// An allowed origin may be written in any script. Browsers send the ASCII form of its host.
func TestAllowedOriginMayBeOfAnyScript(t *testing.T) {
	cfg := DefaultConfig()
	cfg.AllowOrigins = []string{"https://聊天.example", "http://Bücher.example:8080", "https://xn--maana-pta.example"}
	a := newAuth(t, cfg)
	for origin, ok := range map[string]bool{
		"https://xn--rss932g.example": true, "http://xn--bcher-kva.example:8080": true, "https://xn--maana-pta.example": true,
		"https://聊天.example": false, "https://bucher.example": false, // no browser sends a name in this form
	} {
		if err := a.CheckOrigin(origin, Site{Host: "rooms.example.com"}); (err == nil) != ok {
			t.Errorf("origin %s: got %v, want ok %v", origin, err, ok)
		}
	}
}

func TestBearerReadsTheToken(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer a.b.c": "a.b.c", "bearer a": "a", "BEARER  a ": "a", "bEARER a b": "a b",
		"Basic a": "-", "Bearera": "-", "": "-", "Bearer": "", "bearer ": "",
	} {
		token, ok := Bearer(header)
		if ok != (want != "-") || ok && token != want {
			t.Errorf("%q: got %q, %v, want %q", header, token, ok, want)
		}
	}
}

func TestAllowOriginsAreChecked(t *testing.T) {
	for _, bad := range []string{"*", "chat.example.org", "https://chat.example.org/page", "https://*", "ws://chat.example.org"} {
		cfg := DefaultConfig()
		cfg.AllowOrigins = []string{bad}
		if _, err := New(NewSigningKeys(testSecret), cfg); err == nil || !strings.Contains(err.Error(), "--allow-origin") {
			t.Errorf("--allow-origin %s: got %v, want an error that names the flag", bad, err)
		}
	}
}

func TestResumeReturnsTheSignedIdentity(t *testing.T) {
	a := newAuth(t, DefaultConfig())
	now := time.Now()
	a.now = func() time.Time { return now }
	who := a.Anonymous()
	who.Name = "小明"
	signed := a.Sign(who, now)

	if got, issued, err := a.Resume(signed); err != nil || got != who || issued.Unix() != now.Unix() {
		t.Fatalf("got %v, %v, %v, want %v, %v", got, issued, err, who, now)
	}
	if got, _, err := newAuth(t, DefaultConfig()).Resume(signed); err != nil || got != who {
		t.Errorf("another gateway with the same secret: got %v, %v, want %v", got, err, who)
	}
	other, err := New(NewSigningKeys([]byte("a secret that is not the same one")), DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Resume(signed); !errors.Is(err, ErrResume) {
		t.Errorf("another secret: got %v, want %v", err, ErrResume)
	}
	if _, _, err := a.Resume(a.Sign(proto.Identity{ID: "user-1"}, now)); !errors.Is(err, ErrResume) {
		t.Errorf("an identity of a token: got %v, want %v", err, ErrResume)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(signed)
	for i := range raw {
		forged := append([]byte(nil), raw...)
		forged[i] ^= 1
		if who, _, err := a.Resume(base64.RawURLEncoding.EncodeToString(forged)); err == nil {
			t.Errorf("byte %d changed: got %v, want %v", i, who, ErrResume)
		}
	}
	for n := range len(signed) {
		if who, _, err := a.Resume(signed[:n]); err == nil {
			t.Errorf("the first %d characters: got %v, want %v", n, who, ErrResume)
		}
	}
	issued := now
	now = now.Add(DefaultConfig().ResumeAge - time.Second)
	renewed := a.Sign(who, issued)
	if _, _, err := a.Resume(renewed); err != nil {
		t.Errorf("renewed: got %v, want nil", err)
	}
	now = now.Add(2 * time.Second)
	for _, s := range []string{signed, renewed} {
		if _, _, err := a.Resume(s); !errors.Is(err, ErrResume) {
			t.Errorf("too old: got %v, want %v", err, ErrResume)
		}
	}
}

// The clocks of two gateways may differ by hours. A client that moves from one gateway to the
// other must remain the same sender.
func TestResumeWorksOnAGatewayWithAnotherClock(t *testing.T) {
	a := newAuth(t, DefaultConfig())
	who := a.Anonymous()
	for _, apart := range []time.Duration{-20 * time.Hour, -6 * time.Minute, 6 * time.Minute, 20 * time.Hour} {
		if got, _, err := a.Resume(a.Sign(who, time.Now().Add(apart))); err != nil || got != who {
			t.Errorf("%v apart: got %v, %v, want %v", apart, got, err, who)
		}
	}
	if _, _, err := a.Resume(a.Sign(who, time.Now().Add(25*time.Hour))); !errors.Is(err, ErrResume) {
		t.Errorf("a day ahead: got %v, want %v", err, ErrResume)
	}
}

func TestAnonymousIsUniqueAndValid(t *testing.T) {
	a := newAuth(t, DefaultConfig())
	seen := map[string]bool{}
	for range 10_000 {
		id := a.Anonymous().ID
		if refusal := proto.CheckID(id); refusal != nil || seen[id] {
			t.Fatalf("got %q: %v, seen before %v", id, refusal, seen[id])
		}
		seen[id] = true
	}
}

func FuzzResume(f *testing.F) {
	a, err := New(NewSigningKeys(testSecret), DefaultConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.Sign(proto.Identity{ID: "anon-1", Name: "n"}, time.Now()))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, s string) {
		if who, _, err := a.Resume(s); err == nil && proto.CheckID(who.ID) != nil {
			t.Errorf("got %v out of %q", who, s)
		}
	})
}

// writeKey writes a key to a file for --auth-key-file.
func writeKey(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func publicPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestTokenGivesItsIdentity(t *testing.T) {
	secret := []byte(strings.Repeat("s", 40))
	otherSecret := []byte(strings.Repeat("o", 40))
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pubPEM := publicPEM(t, pub)

	byHMAC, byEd, byEC := DefaultConfig(), DefaultConfig(), DefaultConfig()
	byHMAC.KeyFiles = []string{writeKey(t, append(secret, '\n'))}
	byEd.KeyFiles = []string{writeKey(t, pubPEM)}
	byEC.KeyFiles = []string{writeKey(t, publicPEM(t, ec.Public()))}
	hmacAuth, edAuth, ecAuth := newAuth(t, byHMAC), newAuth(t, byEd), newAuth(t, byEC)

	soon := time.Now().Add(time.Hour).Unix()
	good := jwt.MapClaims{"sub": "user-1", "name": "小明", "iat": time.Now().Unix(), "exp": soon}
	with := func(name string, value any) jwt.MapClaims {
		c := jwt.MapClaims{}
		maps.Copy(c, good)
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	sign := func(m jwt.SigningMethod, key any, c jwt.MapClaims) string {
		s, err := jwt.NewWithClaims(m, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	fine := sign(jwt.SigningMethodHS256, secret, good)
	for _, tt := range []struct {
		name  string
		auth  *Auth
		token string
		ok    bool
	}{
		{"good, HMAC", hmacAuth, fine, true},
		{"good, HMAC 512", hmacAuth, sign(jwt.SigningMethodHS512, secret, good), true},
		{"good, Ed25519", edAuth, sign(jwt.SigningMethodEdDSA, private, good), true},
		{"good, ECDSA", ecAuth, sign(jwt.SigningMethodES256, ec, good), true},
		{"a gateway without keys for tokens", newAuth(t, DefaultConfig()), fine, false},
		{"another secret", hmacAuth, sign(jwt.SigningMethodHS256, otherSecret, good), false},
		{"algorithm none", hmacAuth, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good), false},
		{"the public key as an HMAC secret", edAuth, sign(jwt.SigningMethodHS256, pubPEM, good), false},
		{"expired", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("exp", time.Now().Add(-time.Minute).Unix())), false},
		{"no exp", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("exp", nil)), false},
		{"no iat", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("iat", nil)), false},
		{"a life of more than 30 days", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("iat", time.Now().Add(-30*24*time.Hour).Unix())), false},
		{"exp is text", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("exp", "tomorrow")), false},
		{"not yet", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("nbf", soon)), false},
		{"no sub", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("sub", nil)), false},
		{"sub that is not a valid id", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("sub", "a b\r\nRc-From: x")), false},
		{"name that cannot be shown", hmacAuth, sign(jwt.SigningMethodHS256, secret, with("name", "a\u202eb")), false},
		{"cut short", hmacAuth, fine[:len(fine)-5], false},
		{"not a token", hmacAuth, "hello", false},
		{"empty", hmacAuth, "", false},
		{"huge", hmacAuth, strings.Repeat("a", 1<<20), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := tt.auth.Token(tt.token)
			who, exp := h.Who, h.Expires
			if !tt.ok {
				refusal, isRefusal := errors.AsType[*proto.Refusal](err)
				if !isRefusal || refusal.Code != proto.Unauthorized {
					t.Fatalf("got %v, %v, want a refusal as unauthorized", who, err)
				}
				if len(tt.token) > 8 && strings.Contains(refusal.Message, tt.token) {
					t.Errorf("the refusal repeats the token: %v", refusal)
				}
				return
			}
			if err != nil || who != (proto.Identity{ID: "user-1", Name: "小明"}) || exp.Unix() != soon {
				t.Errorf("got %v, %v, %v, want user-1 until %v", who, exp, err, soon)
			}
		})
	}
}

func TestKeyFilesAreChecked(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"missing":        filepath.Join(t.TempDir(), "none"),
		"short":          writeKey(t, []byte("short")),
		"damaged":        writeKey(t, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})),
		"a curve unused": writeKey(t, publicPEM(t, private.Public())),
	} {
		cfg := DefaultConfig()
		cfg.KeyFiles = []string{path}
		if _, err := New(NewSigningKeys(testSecret), cfg); err == nil || !strings.Contains(err.Error(), "--auth-key-file") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error that names flag and file", name, err)
		}
	}
}
