package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"roomcast/gateway/auth"
	"roomcast/gateway/limit"
	"roomcast/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A request from another machine must not count as local.
func TestGuardAdmitsOnlyThisMachineWithoutAToken(t *testing.T) {
	with := func(name, value string) func(*Config, *http.Request) {
		return func(_ *Config, r *http.Request) { r.Header.Set(name, value) }
	}
	who, err := auth.New(auth.NewSigningKeys(make([]byte, 32)), auth.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		listen, peer, host string
		change             func(*Config, *http.Request)
		ok                 bool
	}{
		{"127.0.0.1:8000", "127.0.0.1:5", "127.0.0.1:8000", nil, true},
		{"[::1]:8000", "[::1]:5", "localhost:8000", nil, true},
		{"127.0.0.1:8000", "[::ffff:127.0.0.1]:5", "127.0.0.1:8000", nil, true},
		{"127.0.0.1:8000", "10.0.0.1:5", "127.0.0.1:8000", nil, false},
		{"127.0.0.1:8000", "127.0.0.1:5", "chat.example.org", nil, false},
		{"0.0.0.0:8000", "127.0.0.1:5", "127.0.0.1:8000", nil, false},
		{"[::]:8000", "[::1]:5", "localhost", nil, false},
		{"127.0.0.1:8000", "127.0.0.1:5", "127.0.0.1:8000", func(c *Config, _ *http.Request) { c.LocalAPI = false }, false},
		{"127.0.0.1:8000", "127.0.0.1:5", "127.0.0.1:8000", func(c *Config, _ *http.Request) { c.Auth.AllowOrigins = []string{"https://x"} }, false},
		{"127.0.0.1:8000", "127.0.0.1:5", "localhost", with("X-Forwarded-For", "203.0.113.9"), false},
		{"127.0.0.1:8000", "127.0.0.1:5", "localhost", with("X-Forwarded-Host", "chat.example.org"), false},
		{"127.0.0.1:8000", "127.0.0.1:5", "localhost", with("X-Real-Ip", "127.0.0.1"), false},
		{"127.0.0.1:8000", "127.0.0.1:5", "localhost", with("Forwarded", "for=203.0.113.9"), false},
		{"127.0.0.1:8000", "127.0.0.1:5", "localhost", with("Via", "1.1 proxy"), false},
		{"127.0.0.1:8000", "127.0.0.1:5", "localhost", with("Sec-Fetch-Site", "cross-site"), false},
		{"127.0.0.1:8000", "127.0.0.1:5", "localhost", with("Sec-Fetch-Site", "same-origin"), true},
		{"127.0.0.1:8000", "127.0.0.1:5", "localhost", func(_ *Config, r *http.Request) { r.ProtoMinor = 0 }, false},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tt.listen)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/api/rooms", nil)
		r.RemoteAddr, r.Host = tt.peer, tt.host
		cfg := DefaultConfig()
		if tt.change != nil {
			tt.change(&cfg, r)
		}
		g, err := newGuard(&cfg, addr, who, nil)
		if err != nil {
			t.Fatal(err)
		}
		by, err := g.check(r)
		if err == nil {
			err = by.lacks
		}
		if by.local != tt.ok || err != nil && proto.AsRefusal(err).Code != proto.Forbidden {
			t.Errorf("%s to %s as %s, %v, %s: got %v, want ok %v", tt.peer, tt.listen, tt.host, r.Header, r.Proto, err, tt.ok)
		}
	}
}

// pair writes a new certificate for the name, and its key, into two files.
func pair(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestOperatorIsWarnedThatGuestsNeedNoTicket(t *testing.T) {
	const tickets = "app 0123456789abcdef tickets read say"
	for _, tt := range []struct {
		name, tokens string
		change       func(*auth.Config)
		warned       bool
	}{
		{"tickets alone", tickets, func(*auth.Config) {}, true},
		{"guests have no rights", tickets, func(c *auth.Config) { c.GuestRights = []string{} }, false},
		{"guests have rights on purpose", tickets, func(c *auth.Config) { c.GuestRights = []string{"read"} }, false},
		{"the backend decides", tickets, func(c *auth.Config) { c.Asked = true }, false},
		{"no tickets", "app 0123456789abcdef revoke read say", func(*auth.Config) {}, false},
		{"one token for everything", "0123456789abcdef", func(*auth.Config) {}, false},
	} {
		var log bytes.Buffer
		cfg := DefaultConfig()
		cfg.Log, cfg.APITokenFile = slog.New(slog.NewTextHandler(&log, nil)), filepath.Join(t.TempDir(), "tokens")
		tt.change(&cfg.Auth)
		if err := os.WriteFile(cfg.APITokenFile, []byte(tt.tokens), 0o600); err != nil {
			t.Fatal(err)
		}
		who, err := auth.New(auth.NewSigningKeys(make([]byte, 32)), cfg.Auth)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newGuard(&cfg, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, who, nil); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "set --guest-rights="); got != tt.warned {
			t.Errorf("%s: got the log %s, want a warning: %v", tt.name, &log, tt.warned)
		}
	}
}

func TestChangedCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := pair(t, dir, "first.example.org")
	var said bytes.Buffer
	c, err := newCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	serves := func(want string) {
		t.Helper()
		c.checked = time.Time{} // as if the last check were long ago
		got, err := c.config().GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(got.Certificate[0])
		if err != nil || leaf.Subject.CommonName != want {
			t.Errorf("got %v, %v, want %s", leaf.Subject, err, want)
		}
	}
	serves("first.example.org")

	pair(t, dir, "second.example.org")
	later := time.Now().Add(time.Minute)
	os.Chtimes(certFile, later, later)
	serves("second.example.org")

	// While a file is only partly written, the old certificate stays in use.
	if err := os.WriteFile(certFile, []byte("not yet"), 0o600); err != nil {
		t.Fatal(err)
	}
	later = later.Add(time.Minute)
	os.Chtimes(certFile, later, later)
	serves("second.example.org")
	if !strings.Contains(said.String(), "the old one stays in use") {
		t.Errorf("got %q, want a warning", &said)
	}
}

func TestErrorOfAWrongSettingNamesItsFlag(t *testing.T) {
	for flag, change := range map[string]func(*Config){
		"--max-message":                 func(c *Config) { c.MaxMessage = 1 << 30 },
		"--path-prefix":                 func(c *Config) { c.PathPrefix = "chat/" },
		"--max-request-head":            func(c *Config) { c.MaxRequestHead = 100 },
		"--ping-interval":               func(c *Config) { c.PingInterval = 0 },
		"--http-idle-time":              func(c *Config) { c.HTTPIdleTime = 0 },
		"--max-connections":             func(c *Config) { c.MaxConnections = -1 },
		"--max-connections-per-address": func(c *Config) { c.MaxConnectionsPerAddress = -1 },
		"--connect-rate":                func(c *Config) { c.ConnectRate = -1 },
		"--rate":                        func(c *Config) { c.Rate = -1 },
		"--burst":                       func(c *Config) { c.Burst = 0 },
		"--memory":                      func(c *Config) { c.Memory = 1 },
		"--drain-time":                  func(c *Config) { c.DrainTime = -1 },
		"--loops":                       func(c *Config) { c.Loops = -1 },
		"--greeting":                    func(c *Config) { c.Greeting = strings.Repeat("x", c.MaxMessage+1) },
		"--allow-query-token":           func(c *Config) { c.AllowQueryToken = true },
		"--auth-cookie":                 func(c *Config) { c.AuthCookie = "session" },
		"--auth-timeout":                func(c *Config) { c.AuthTime = 0 },
		"--auth-jwks-url":               func(c *Config) { c.Auth.JWKSURLs = []string{"https://id.example.org/keys"} },
		"--auth-issuer":                 func(c *Config) { c.Auth.Issuers = []string{"x"} },
		"--auth-audience":               func(c *Config) { c.Auth.Audiences = []string{"x"} },
		"--default-rights":              func(c *Config) { c.Auth.Rights = []string{"write"} },
		"--guest-rights":                func(c *Config) { c.Auth.GuestRights = []string{"lobby"} },
		"--api-token-file":              func(c *Config) { c.APITokenFile = "none" },
		"--auth-key-file":               func(c *Config) { c.Auth.KeyFiles = []string{"none"} },
		"--allow-origin":                func(c *Config) { c.Auth.AllowOrigins = []string{"x"} },
		"--https-cert":                  func(c *Config) { c.CertFile, c.KeyFile = "none", "none" },
	} {
		c := DefaultConfig()
		c.Log = quiet()
		if err := c.Check(); err != nil {
			t.Fatalf("the defaults: got %v", err)
		}
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("got %v, want an error that names %s", err, flag)
		}
	}
}

// Close must also close the connections that Accept has not returned.
func TestClosedHandoffClosesItsConnections(t *testing.T) {
	h := newHandoff(&net.TCPAddr{})
	ours, theirs := net.Pipe()
	h.give(ours)
	got, err := h.Accept()
	if err != nil || got != ours {
		t.Fatalf("got %v, %v", got, err)
	}
	got.Close()
	theirs.Close()

	waiting, peer := net.Pipe()
	h.give(waiting)
	h.Close()
	late, latePeer := net.Pipe()
	h.give(late)
	for _, p := range []net.Conn{peer, latePeer} {
		if _, err := p.Read(make([]byte, 1)); err == nil {
			t.Error("got bytes, want the end")
		}
		p.Close()
	}
	if _, err := h.Accept(); err == nil {
		t.Error("accepted after Close")
	}
}

// A handler may return a body together with an error. The gateway sends only the refusal, and the
// budget does not change.
func TestRefusalTakesNoMemory(t *testing.T) {
	a := api{memory: limit.NewBudget(1 << 20)}
	for _, err := range []error{nil, proto.Refuse(proto.CodeBanned, "no"), errors.New("defect")} {
		w := httptest.NewRecorder()
		a.respond(w, answer(`{"room":"lobby"}`), err)
		if refused := !strings.Contains(w.Body.String(), "lobby"); refused != (err != nil) {
			t.Errorf("%v: got %q", err, w.Body)
		}
		if n := a.memory.Used(limit.Pages); n != 0 {
			t.Errorf("%v: %d bytes are counted after the answer", err, n)
		}
	}
	w := httptest.NewRecorder()
	a.respond(w, make(answer, 1<<20), nil)
	if w.Code != http.StatusServiceUnavailable || a.memory.Used(limit.Pages) != 0 {
		t.Errorf("an answer beyond the budget: got %d, %d bytes", w.Code, a.memory.Used(limit.Pages))
	}
}
