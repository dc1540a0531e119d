package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, address string) *Receiver {
	t.Helper()
	r, err := Open(address, secretFile(t, secret), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// A post succeeds only with a complete 2xx answer. The poster follows no redirect, and waits no
// longer than its limit.
func TestHostileReceiversAcceptNoPost(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	abort := func(write string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				io.WriteString(c, write)
				c.Close()
			}
		}
	}
	for name, tt := range map[string]struct {
		handle http.HandlerFunc
		tls    bool
		want   string // a part of the error; "" = accepted
	}{
		"200":                       {handle: status(200)},
		"204":                       {handle: status(204)},
		"500":                       {handle: status(500), want: "answers 500"},
		"404":                       {handle: status(404), want: "answers 404"},
		"410":                       {handle: status(410), want: "answers 410"},
		"early hints and no more":   {handle: abort("HTTP/1.1 103 Early Hints\r\n\r\n"), want: "EOF"},
		"redirect":                  {handle: http.RedirectHandler(other.URL, http.StatusTemporaryRedirect).ServeHTTP, want: "answers 307"},
		"moved":                     {handle: http.RedirectHandler(other.URL, http.StatusMovedPermanently).ServeHTTP, want: "answers 301"},
		"wrong certificate":         {handle: status(200), tls: true, want: "certificate"},
		"no HTTP":                   {handle: abort("SSH-2.0-hello\r\n\r\n"), want: "malformed"},
		"closes at once":            {handle: abort(""), want: "EOF"},
		"closes in the middle":      {handle: abort("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal"), want: "unexpected EOF"},
		"closes within its headers": {handle: abort("HTTP/1.1 200 OK\r\nContent-"), want: "malformed"},
		"endless headers":           {handle: abort("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), want: ""},
		"more than is read":         {handle: func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 2*maxAnswer)) }},
		"hangs before its answer":   {handle: func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }, want: "Client.Timeout"},
		"hangs in its answer": {handle: func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Write([]byte("x"))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, want: "Client.Timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(tt.handle)
			server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), 0)
			if tt.tls {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			r := open(t, server.URL)
			if strings.HasPrefix(name, "hangs") {
				r.client.Timeout = 100 * time.Millisecond
			}
			err := r.Post(t.Context(), "id", []byte(`{"events":[{"data":"CANARY"}]}`))
			switch {
			case name == "endless headers":
				if err == nil {
					t.Error("a post succeeded")
				}
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "CANARY") {
				t.Errorf("the error contains the body: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		if elsewhere.Load() > 0 {
			t.Error("a redirect was followed")
		}
	})
}

func TestReceiverLimitsAPost(t *testing.T) {
	if r := open(t, "https://example.org"); r.client.Timeout != 10*time.Second {
		t.Errorf("got %v, want 10s", r.client.Timeout)
	}
}

func TestPostEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	if err := open(t, server.URL).Post(ctx, "id", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// After the secret file has changed, the next post is signed with the new secret. If the file has
// no valid secret, the old one stays in use.
func TestSecretsAreReadAgain(t *testing.T) {
	var signature atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		signature.Store(r.Header.Get("Webhook-Signature"))
	}))
	defer server.Close()
	file := secretFile(t, secret)
	var log bytes.Buffer
	r, err := Open(server.URL, file, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, tt := range []struct {
		text string
		want int // signatures
	}{{secret, 1}, {secret + " whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 2}, {"short", 2}, {"short", 2}} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Post(t.Context(), "id", nil); err != nil {
			t.Fatal(err)
		}
		if got := len(strings.Fields(signature.Load().(string))); got != tt.want {
			t.Errorf("%q: got %d signatures, want %d", tt.text, got, tt.want)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || strings.Contains(log.String(), secret) {
		t.Errorf("got %d warnings, want 1:\n%s", n, &log)
	}
}

func TestURLsThatCannotBeUsedAreRefused(t *testing.T) {
	for address, good := range map[string]bool{
		"https://app.example.org/hook": true, "https://app.example.org:8443": true, "http://127.0.0.1:8000/x": true, "http://localhost:3000": true, "http://[::1]:1": true,
		"http://app.example.org": false, "http://10.0.0.1": false, "http://localhost.example.org": false, "ftp://app.example.org": false, "app.example.org": false,
		"https://": false, "https://user:secret@app.example.org": false, "http://127.0.0.1@example.org": false, "": false, "https://a b": false,
	} {
		if err := CheckURL(address); (err == nil) != good {
			t.Errorf("%q: got %v", address, err)
		}
	}
}

// The pauses between attempts grow, up to a minute.
func TestPausesGrow(t *testing.T) {
	for failures, most := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 6: 32 * time.Second, 7: time.Minute, 100: time.Minute, 1 << 40: time.Minute} {
		for range 100 {
			if got := Pause(failures); got > most || got < most*4/5 {
				t.Errorf("after %d failures: got %v, want at most %v", failures, got, most)
			}
		}
	}
}

// A retry has the same id as the post. Another post, or a post of a new stream, has another id.
func TestIDsAreStable(t *testing.T) {
	created := time.UnixMilli(1_790_000_000_000)
	ids := map[string]bool{}
	for _, id := range []string{ID(created, 1, 5), ID(created, 1, 6), ID(created, 2, 5), ID(created.Add(time.Millisecond), 1, 5)} {
		ids[id] = true
	}
	if len(ids) != 4 || !ids[ID(created, 1, 5)] || !strings.HasPrefix(ID(created, 1, 5), EventID(created, 1)) {
		t.Errorf("got %v", ids)
	}
}
