package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
)

// The gateway runs in a process of its own.
func TestConsole(t *testing.T) {
	const password = "password-of-a-backend"
	p := launch(t, nil, `exec "$@"`, "--data-dir", t.TempDir(), "--nats-listen", "127.0.0.1:0", "--nats-listen-password-file", servertest.File(t, password))
	line := regexp.MustCompile(`(?m)^ *NATS +(nats://\S+)$`)
	natstest.Eventually(t, "the address of NATS", func() bool { return line.MatchString(p.output()) })
	testscript.Run(t, testscript.Params{
		Dir: "testdata/console",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ROOMCAST_URL", p.base)
			env.Setenv("ROOMCAST_TOKEN", "")
			env.Setenv("NATS", line.FindStringSubmatch(p.output())[1])
			env.Setenv("NATS_USER", "me")
			env.Setenv("NATS_PASSWORD", password)
			return nil
		},
	})
}

// The gateway requires a credential, and asks a backend about messages. The backend fails once.
func TestConsoleWithCredentials(t *testing.T) {
	const secret, token = "0123456789abcdef0123456789abcdef", "a-token-of-this-test"
	var failed atomic.Bool
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if question, _ := io.ReadAll(r.Body); bytes.Contains(question, []byte(`"wait"`)) && !failed.Swap(true) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		io.WriteString(w, `{"allow":true}`)
	}))
	t.Cleanup(backend.Close)
	p := launch(t, nil, `exec "$@"`, "--data-dir", t.TempDir(), "--auth-key-file", servertest.File(t, secret),
		"--api-token-file", servertest.File(t, "shop "+token+" read say moderate"), "--ask", "say", "--ask-url", backend.URL)
	user := func(id, right string) string {
		now := time.Now()
		claims := jwt.MapClaims{"sub": id, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "rooms": map[string]string{"*": right}}
		signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/credentials",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ROOMCAST_URL", p.base)
			env.Setenv("SAYS", user("ann", "say"))
			env.Setenv("READS", user("ben", "read"))
			env.Setenv("API", token)
			return nil
		},
	})
}
