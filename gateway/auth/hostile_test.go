package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"roomcast/proto"
	"roomcast/proto/grant"
	"roomcast/proto/grant/granttest"
)

var testHMAC = []byte(strings.Repeat("s", 40))

// signed makes a token from raw JSON, which a hostile issuer or a careless library might write.
func signed(header, claims string, secret []byte) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	sig, err := jwt.SigningMethodHS256.Sign(text, secret)
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func withHMAC(t *testing.T, change ...func(*Config)) *Auth {
	cfg := DefaultConfig()
	cfg.KeyFiles = []string{writeKey(t, testHMAC)}
	for _, f := range change {
		f(&cfg)
	}
	return newAuth(t, cfg)
}

func wantUnauthorized(t *testing.T, name string, h Holder, err error) {
	t.Helper()
	if r, ok := errors.AsType[*proto.Refusal](err); !ok || r.Code != proto.Unauthorized || r.Message == "" {
		t.Errorf("%s: got %+v, %v, want a refusal as unauthorized", name, h, err)
	}
}

func TestHostileTokensAreRefused(t *testing.T) {
	a := withHMAC(t)
	const plain = `{"alg":"HS256","typ":"JWT"}`
	exp, iat := fmt.Sprint(time.Now().Add(time.Hour).Unix()), fmt.Sprint(time.Now().Unix())
	for name, header := range map[string]string{
		"crit":             `{"alg":"HS256","crit":["exp"]}`,
		"empty crit":       `{"alg":"HS256","crit":[]}`,
		"password reset":   `{"alg":"HS256","typ":"reset-password+jwt"}`,
		"id of a session":  `{"alg":"HS256","typ":"logout+jwt"}`,
		"typ is a number":  `{"alg":"HS256","typ":1}`,
		"typ is null":      `{"alg":"HS256","typ":null}`,
		"kid is a number":  `{"alg":"HS256","kid":1}`,
		"alg none":         `{"alg":"none"}`,
		"alg None":         `{"alg":"None"}`,
		"alg missing":      `{}`,
		"alg is a list":    `{"alg":["HS256"]}`,
		"RSA":              `{"alg":"RS256"}`,
		"header is a list": `["HS256"]`,
		"header is null":   `null`,
	} {
		h, err := a.Token(signed(header, `{"sub":"ann","iat":`+iat+`,"exp":`+exp+`}`, testHMAC))
		wantUnauthorized(t, name, h, err)
	}
	for name, claims := range map[string]string{
		"no sub":                `{"iat":` + iat + `,"exp":` + exp + `}`,
		"sub is null":           `{"sub":null,"iat":` + iat + `,"exp":` + exp + `}`,
		"sub is empty":          `{"sub":"","iat":` + iat + `,"exp":` + exp + `}`,
		"sub is true":           `{"sub":true,"iat":` + iat + `,"exp":` + exp + `}`,
		"sub is a list":         `{"sub":["ann"],"iat":` + iat + `,"exp":` + exp + `}`,
		"sub is an object":      `{"sub":{"id":"ann"},"iat":` + iat + `,"exp":` + exp + `}`,
		"sub is a fraction":     `{"sub":4.5,"iat":` + iat + `,"exp":` + exp + `}`,
		"sub has an exponent":   `{"sub":4e1,"iat":` + iat + `,"exp":` + exp + `}`,
		"sub is minus zero":     `{"sub":-0,"iat":` + iat + `,"exp":` + exp + `}`,
		"sub beyond 2^53":       `{"sub":9007199254740993,"iat":` + iat + `,"exp":` + exp + `}`,
		"sub api":               `{"sub":"api","iat":` + iat + `,"exp":` + exp + `}`,
		"sub nats":              `{"sub":"nats","iat":` + iat + `,"exp":` + exp + `}`,
		"sub of an API token":   `{"sub":"api:shop","iat":` + iat + `,"exp":` + exp + `}`,
		"sub of a guest":        `{"sub":"anon-aaaa","iat":` + iat + `,"exp":` + exp + `}`,
		"sub of all guests":     `{"sub":"*guests","iat":` + iat + `,"exp":` + exp + `}`,
		"sub with a line":       `{"sub":"a\nb","iat":` + iat + `,"exp":` + exp + `}`,
		"sub with NUL":          `{"sub":"a\u0000","iat":` + iat + `,"exp":` + exp + `}`,
		"sub that turns text":   `{"sub":"a\u202eb","iat":` + iat + `,"exp":` + exp + `}`,
		"sub with zero width":   `{"sub":"ann\u200b","iat":` + iat + `,"exp":` + exp + `}`,
		"sub with a space":      `{"sub":"ann ","iat":` + iat + `,"exp":` + exp + `}`,
		"sub of half a pair":    `{"sub":"a\ud800","iat":` + iat + `,"exp":` + exp + `}`,
		"sub too long":          `{"sub":"` + strings.Repeat("a", 129) + `","iat":` + iat + `,"exp":` + exp + `}`,
		"sub twice":             `{"sub":"ann","sub":"root","iat":` + iat + `,"exp":` + exp + `}`,
		"sub twice by escape":   `{"sub":"ann","s\u0075b":"root","iat":` + iat + `,"exp":` + exp + `}`,
		"SUB alone":             `{"SUB":"ann","iat":` + iat + `,"exp":` + exp + `}`,
		"no exp":                `{"sub":"ann"}`,
		"EXP alone":             `{"sub":"ann","EXP":` + exp + `}`,
		"exp is null":           `{"sub":"ann","iat":` + iat + `,"exp":null}`,
		"exp is text":           `{"sub":"ann","iat":` + iat + `,"exp":"` + exp + `"}`,
		"exp is negative":       `{"sub":"ann","iat":` + iat + `,"exp":-1}`,
		"exp is huge":           `{"sub":"ann","iat":` + iat + `,"exp":1e300}`,
		"exp is infinite":       `{"sub":"ann","iat":` + iat + `,"exp":1e999}`,
		"exp after year 9999":   `{"sub":"ann","iat":` + iat + `,"exp":253402300800}`,
		"expired":               `{"sub":"ann","iat":` + iat + `,"exp":` + fmt.Sprint(time.Now().Add(-6*time.Second).Unix()) + `}`,
		"nbf ahead":             `{"sub":"ann","iat":` + iat + `,"exp":` + exp + `,"nbf":` + exp + `}`,
		"nbf is text":           `{"sub":"ann","iat":` + iat + `,"exp":` + exp + `,"nbf":"now"}`,
		"iat ahead":             `{"sub":"ann","exp":` + exp + `,"iat":` + exp + `}`,
		"no iat":                `{"sub":"ann","exp":` + exp + `}`,
		"iat is text":           `{"sub":"ann","iat":"` + iat + `","exp":` + exp + `}`,
		"name turns text":       `{"sub":"ann","name":"a\u202eb","iat":` + iat + `,"exp":` + exp + `}`,
		"name is a number":      `{"sub":"ann","name":1,"iat":` + iat + `,"exp":` + exp + `}`,
		"name too long":         `{"sub":"ann","name":"` + strings.Repeat("n", 129) + `","iat":` + iat + `,"exp":` + exp + `}`,
		"iss is a list":         `{"sub":"ann","iss":["a"],"iat":` + iat + `,"exp":` + exp + `}`,
		"aud is a number":       `{"sub":"ann","aud":1,"iat":` + iat + `,"exp":` + exp + `}`,
		"claims are a list":     `["ann"]`,
		"claims are null":       `null`,
		"claims are cut short":  `{"sub":"ann","iat":` + iat + `,"exp":` + exp,
		"more after the claims": `{"sub":"ann","iat":` + iat + `,"exp":` + exp + `}{}`,
	} {
		h, err := a.Token(signed(plain, claims, testHMAC))
		wantUnauthorized(t, name, h, err)
	}
	for name, rooms := range granttest.Hostile() {
		h, err := a.Token(signed(plain, `{"sub":"ann","iat":`+iat+`,"exp":`+exp+`,"rooms":`+rooms+`}`, testHMAC))
		wantUnauthorized(t, "rooms: "+name, h, err)
	}
	good := signed(plain, `{"sub":"ann","iat":`+iat+`,"exp":`+exp+`}`, testHMAC)
	for name, token := range map[string]string{
		"one part": "a", "two parts": "a.b", "four parts": good + ".a", "unsigned": good[:strings.LastIndexByte(good, '.')+1],
		"padded": good + "==", "with a space": " " + good, "with a line": good + "\n", "dots": "..", "NUL": "\x00",
		"longer than 12 KiB": good + strings.Repeat("a", 12<<10),
	} {
		h, err := a.Token(token)
		wantUnauthorized(t, name, h, err)
	}
}

// Some identity providers use numbers as ids. With others, ids begin with the name of a
// connection.
func TestIDsOfIdentityProvidersAreAccepted(t *testing.T) {
	a := withHMAC(t)
	exp, iat := fmt.Sprint(time.Now().Add(time.Hour).Unix()), fmt.Sprint(time.Now().Unix())
	for sub, id := range map[string]string{
		`"auth0|5f7c"`: "auth0|5f7c", `"google-oauth2|1035"`: "google-oauth2|1035", `"ann+x@example.org"`: "ann+x@example.org",
		`"https://id.example.org/7"`: "https://id.example.org/7", `42`: "42", `"42"`: "42", `9007199254740992`: "9007199254740992",
		`-7`: "-7", `"安娜"`: "安娜", `"Ann \ud83e\udee9"`: "Ann \U0001fae9", `"anonymous"`: "anonymous", `"apis"`: "apis",
	} {
		for _, header := range []string{`{"alg":"HS256"}`, `{"alg":"HS256","typ":"at+jwt"}`, `{"alg":"HS256","typ":"jwt","kid":"any","jku":"https://evil.example"}`} {
			h, err := a.Token(signed(header, `{"sub":`+sub+`,"iat":`+iat+`,"exp":`+exp+`,"name":null,"roles":["`+strings.Repeat("r", 6<<10)+`"]}`, testHMAC))
			if err != nil || h.Who.ID != id {
				t.Errorf("sub %s with %s: got %q, %v, want %q", sub, header, h.Who.ID, err, id)
			}
		}
	}
}

func TestRightsOfTokensAndGuests(t *testing.T) {
	room := proto.MustRoom("lobby")
	exp, iat := fmt.Sprint(time.Now().Add(time.Hour).Unix()), fmt.Sprint(time.Now().Unix())
	a := withHMAC(t, func(c *Config) { c.Rights = []string{"read", "user:{id}=read say"} })
	token := func(rooms string) *grant.Grant {
		h, err := a.Token(signed(`{"alg":"HS256"}`, `{"sub":"ann","iat":`+iat+`,"exp":`+exp+rooms+`}`, testHMAC))
		if err != nil {
			t.Fatal(err)
		}
		return h.Grant
	}
	if got := token("").Of(room, "ann"); got != proto.MayRead {
		t.Errorf("without rooms: got %b, want --default-rights", got)
	}
	if got := token("").Of(proto.MustRoom("user:ann"), "ann"); got != proto.MayRead|proto.MaySay {
		t.Errorf("one's own room: got %b, want read and say", got)
	}
	for _, empty := range []string{`,"rooms":{}`, `,"rooms":[]`} {
		if got := token(empty).Of(room, "ann"); got != 0 {
			t.Errorf("%s: got %b, want nothing", empty, got)
		}
	}
	if !a.Guests().IsEmpty() {
		t.Error("guests have rights although a key is configured")
	}
	if got := withHMAC(t, func(c *Config) { c.GuestRights = []string{"read"} }).Guests().Of(room, "anon-a"); got != proto.MayRead {
		t.Errorf("--guest-rights read: got %b", got)
	}
	if got := newAuth(t, DefaultConfig()).Guests().Of(room, "anon-a"); got != proto.MayRead|proto.MaySay {
		t.Errorf("without a key, guests: got %b, want read and say", got)
	}
	// Sessions whose tokens have the same claim share one grant. The grant is freed when the
	// last of them has ended.
	one, two := token(`,"rooms":{"x":"read"}`), token(`,"rooms":{"x":"read"}`)
	if one != two {
		t.Error("two tokens with the same claim have two grants")
	}
	runtime.KeepAlive(one)
	one, two = nil, nil
	for deadline := time.Now().Add(10 * time.Second); ; {
		runtime.GC()
		a.grants.mu.Lock()
		n := len(a.grants.byClaim)
		a.grants.mu.Unlock()
		if n <= 2 && a.grants.byClaim[`{"x":"read"}`].Value() == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d grants are kept", n)
		}
	}
}

func TestAnIssuerSpeaksOnlyForItself(t *testing.T) {
	keyA, keyB, keyC := []byte(strings.Repeat("a", 32)), []byte(strings.Repeat("b", 32)), []byte(strings.Repeat("c", 32))
	cfg := DefaultConfig()
	cfg.KeyFiles = []string{"acme=" + writeKey(t, keyA), "beta=" + writeKey(t, keyB), writeKey(t, keyC)}
	cfg.Issuers = []string{"acme=https://acme.example", "beta=https://beta.example"}
	cfg.Audiences = []string{"beta=chat", "beta=talk"}
	a := newAuth(t, cfg)
	exp, iat := fmt.Sprint(time.Now().Add(time.Hour).Unix()), fmt.Sprint(time.Now().Unix())
	for _, tt := range []struct {
		name, claims string
		secret       []byte
		id           string
	}{
		{"acme", `"sub":"ann","iss":"https://acme.example"`, keyA, "acme:ann"},
		{"beta", `"sub":"ann","iss":"https://beta.example","aud":"chat"`, keyB, "beta:ann"},
		{"beta for two", `"sub":"ann","iss":"https://beta.example","aud":["shop","talk"]`, keyB, "beta:ann"},
		{"unnamed", `"sub":"ann"`, keyC, "ann"},
		{"unnamed with an iss that nobody else has", `"sub":"ann","iss":"x"`, keyC, "ann"},
		{"beta as acme", `"sub":"ann","iss":"https://acme.example","aud":"chat"`, keyB, ""},
		{"beta without iss", `"sub":"ann","aud":"chat"`, keyB, ""},
		{"acme without iss", `"sub":"ann"`, keyA, ""},
		{"beta for a shop", `"sub":"ann","iss":"https://beta.example","aud":"shop"`, keyB, ""},
		{"beta for nobody", `"sub":"ann","iss":"https://beta.example"`, keyB, ""},
		{"unnamed as acme's ann", `"sub":"acme:ann"`, keyC, ""},
		{"unnamed as acme", `"sub":"ann","iss":"https://acme.example"`, keyC, ""},
		{"acme with an id that is too long", `"sub":"` + strings.Repeat("a", 124) + `","iss":"https://acme.example"`, keyA, ""},
	} {
		h, err := a.Token(signed(`{"alg":"HS256"}`, `{`+tt.claims+`,"iat":`+iat+`,"exp":`+exp+`}`, tt.secret))
		if tt.id == "" {
			wantUnauthorized(t, tt.name, h, err)
		} else if err != nil || h.Who.ID != tt.id {
			t.Errorf("%s: got %q, %v, want %q", tt.name, h.Who.ID, err, tt.id)
		}
	}
	for name, change := range map[string]func(*Config){
		"--auth-key-file: an issuer cannot be named api": func(c *Config) { c.KeyFiles = []string{"api=" + writeKey(t, keyA)} },
		"belongs to two issuers": func(c *Config) {
			path := writeKey(t, keyA)
			c.KeyFiles = []string{"a=" + path, "b=" + path}
		},
		"--auth-issuer x=y: no --auth-key-file":               func(c *Config) { c.KeyFiles, c.Issuers = []string{writeKey(t, keyA)}, []string{"x=y"} },
		"--auth-audience x: no --auth-key-file":               func(c *Config) { c.Audiences = []string{"x"} },
		"--auth-jwks-url needs --auth-audience":               func(c *Config) { c.JWKSURLs = []string{"https://id.example/jwks"} },
		"must begin with https://":                            func(c *Config) { c.JWKSURLs = []string{"http://id.example/jwks"} },
		"is not a URL such as":                                func(c *Config) { c.JWKSURLs = []string{"id.example"} },
		"--default-rights: unknown right":                     func(c *Config) { c.Rights = []string{"write"} },
		"--guest-rights: \"a*b\": a * may be only at the end": func(c *Config) { c.GuestRights = []string{"a*b=read"} },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if _, err := New(NewSigningKeys(testSecret), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error with %s", err, name)
		}
	}
}

func jwksOf(t *testing.T, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJWKSKeysThatCannotCheckAreIgnored(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := jose.JSONWebKey{Key: ec.Public(), KeyID: "good", Use: "sig", Algorithm: "ES256"}
	for name, set := range map[string][]byte{
		"for encryption":     jwksOf(t, jose.JSONWebKey{Key: ec.Public(), Use: "enc"}),
		"short RSA":          jwksOf(t, jose.JSONWebKey{Key: short.Public()}),
		"a secret":           jwksOf(t, jose.JSONWebKey{Key: testHMAC}),
		"a private key":      jwksOf(t, jose.JSONWebKey{Key: ec}),
		"another algorithm":  jwksOf(t, jose.JSONWebKey{Key: ec.Public(), Algorithm: "HS256"}),
		"not on the curve":   []byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}`),
		"an unknown type":    []byte(`{"keys":[{"kty":"XYZ"}]}`),
		"null":               []byte(`{"keys":[null]}`),
		"no keys":            []byte(`{"keys":[]}`),
		"keys are an object": []byte(`{"keys":{}}`),
		"not an object":      []byte(`[]`),
		"HTML":               []byte(`<html>`),
		"101 keys":           jwksOf(t, slices101(good)...),
	} {
		if keys, err := parseJWKS(set, false); err == nil {
			t.Errorf("%s: got %v, want an error", name, keys)
		}
	}
	keys, err := parseJWKS(jwksOf(t, jose.JSONWebKey{Key: testHMAC}, good), false)
	if err != nil || len(keys) != 1 || keys[0].id != "good" || !keys[0].fits("good", "ES256") || keys[0].fits("other", "ES256") || keys[0].fits("good", "HS256") {
		t.Errorf("got %v, %v, want only the good key", keys, err)
	}
	if keys, err := parseJWKS(jwksOf(t, jose.JSONWebKey{Key: testHMAC, KeyID: "s"}), true); err != nil || len(keys) != 1 {
		t.Errorf("a secret in a file: got %v, %v, want one key", keys, err)
	}
}

func slices101(k jose.JSONWebKey) (list []jose.JSONWebKey) {
	for range 101 {
		list = append(list, k)
	}
	return list
}

// The issuer may change the keys in a file or at a URL, without a restart of the gateway.
func TestKeysRotate(t *testing.T) {
	old, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token := func(kid string, k *ecdsa.PrivateKey) string {
		tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "ann", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
		tok.Header["kid"] = kid
		s, err := tok.SignedString(k)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := jwksOf(t, jose.JSONWebKey{Key: old.Public(), KeyID: "old"})
	after := jwksOf(t, jose.JSONWebKey{Key: fresh.Public(), KeyID: "fresh"})

	t.Run("file", func(t *testing.T) {
		path := writeKey(t, before)
		cfg := DefaultConfig()
		cfg.KeyFiles = []string{path}
		a := newAuth(t, cfg)
		if _, err := a.Token(token("old", old)); err != nil {
			t.Fatal(err)
		}
		for i, content := range [][]byte{after, []byte("damaged")} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			later := time.Now().Add(time.Duration(i+1) * time.Minute)
			if err := os.Chtimes(path, later, later); err != nil {
				t.Fatal(err)
			}
			f := a.issuers[0].sources[0].(keyFile)
			f.mu.Lock()
			f.checked = time.Time{}
			f.mu.Unlock()
			if _, err := a.Token(token("fresh", fresh)); err != nil {
				t.Errorf("the new key after change %d: %v", i+1, err)
			}
			h, err := a.Token(token("old", old))
			wantUnauthorized(t, "the old key", h, err)
		}
	})

	t.Run("URL", func(t *testing.T) {
		var answer atomic.Pointer[[]byte]
		answer.Store(&before)
		var fetches atomic.Int64
		var status atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			if s := int(status.Load()); s != 0 {
				http.Redirect(w, r, "/elsewhere", s)
				return
			}
			w.Write(*answer.Load())
		}))
		defer server.Close()
		cfg := DefaultConfig()
		cfg.JWKSURLs, cfg.Audiences = []string{server.URL}, []string{"any"}
		a := newAuth(t, cfg)
		if _, err := a.Token(token("old", old)); CloseCode(err) != proto.CloseUnavailable {
			t.Errorf("before the first fetch: got %v, want unavailable", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { a.Run(ctx) })
		defer running.Wait()
		defer cancel()
		await := func(what string, cond func() bool) {
			t.Helper()
			for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("waited in vain for %s", what)
				}
			}
		}
		accepts := func(tok string) func() bool {
			return func() bool { _, err := a.Token(tok); return err == nil }
		}
		await("the first fetch", accepts(token("old", old)))
		answer.Store(&after)
		h, err := a.Token(token("fresh", fresh))
		wantUnauthorized(t, "an unknown kid soon after a fetch", h, err)
		k := a.issuers[0].sources[0].(*keyURL)
		age := func(by time.Duration) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.tried, k.fetched = k.tried.Add(-by), k.fetched.Add(-by)
		}
		age(fetchAgain)
		await("the new key", accepts(token("fresh", fresh)))
		h, err = a.Token(token("old", old))
		wantUnauthorized(t, "the key that the issuer has withdrawn", h, err)
		for range 100 {
			a.Token(token("nobody's", fresh))
		}
		status.Store(http.StatusFound)
		n := fetches.Load()
		age(fetchAgain)
		a.Token(token("nobody's", fresh))
		await("a fetch that fails", func() bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return fetches.Load() > n && time.Since(k.tried) < fetchAgain
		})
		if got := fetches.Load(); got != n+1 || n != 2 {
			t.Errorf("got %d fetches and then %d, want 2 and 3: one for each unknown kid, no redirect followed", n, got)
		}
		if !accepts(token("fresh", fresh))() {
			t.Error("the keys are gone although fetching has failed only once")
		}
		age(keysLast)
		if _, err := a.Token(token("fresh", fresh)); CloseCode(err) != proto.CloseUnavailable {
			t.Errorf("after a day without a fetch: got %v, want unavailable", err)
		}
	})
}

func TestChecksAreBounded(t *testing.T) {
	a := withHMAC(t)
	for range maxChecks {
		if !a.Check("x", func(Holder, error) {}) {
			t.Fatal("refused before the bound")
		}
	}
	if a.Check("x", func(Holder, error) {}) {
		t.Errorf("more than %d tokens wait", maxChecks)
	}
}

func FuzzToken(f *testing.F) {
	cfg := DefaultConfig()
	path := f.TempDir() + "/key"
	if err := os.WriteFile(path, testHMAC, 0o600); err != nil {
		f.Fatal(err)
	}
	cfg.KeyFiles = []string{path}
	a, err := New(NewSigningKeys(testSecret), cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"alg":"HS256"}`, `{"sub":"ann","iat":1,"exp":9999,"rooms":{"*":"read"}}`)
	f.Add(`{"alg":"HS256","typ":"JWT","kid":"a"}`, `{"sub":7,"exp":9e9,"aud":["a"],"iss":"b","nbf":0,"iat":1}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		h, err := a.Token(signed(header, claims, testHMAC))
		if err == nil && (proto.CheckID(h.Who.ID) != nil || proto.ReservedID(h.Who.ID) || proto.CheckName(h.Who.Name) != nil || h.Grant == nil || time.Now().After(h.End())) {
			t.Errorf("%s %s: got %+v", header, claims, h)
		}
	})
}
