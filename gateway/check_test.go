package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The command "check" must report all wrong settings and files at once, because otherwise each
// costs another run. It must also notice keys that cannot be fetched: such a gateway starts, but
// refuses all tokens.
func TestCheckReportsAllProblemsAtOnce(t *testing.T) {
	noKeys := httptest.NewServer(http.NotFoundHandler())
	defer noKeys.Close()
	for _, tt := range []struct {
		flags, want []string
	}{
		{
			[]string{"--api-token-file", "no-tokens", "--auth-key-file", "no-key", "--encryption-key-file", "no-secret", "--id", "a b", "--burst", "0", "--lease", "1h"},
			[]string{"no-tokens", "no-key", "no-secret", "--id", "--burst", "--lease"},
		},
		{
			[]string{"--auth-jwks-url", noKeys.URL, "--auth-audience", "any"},
			[]string{"--auth-jwks-url: fetch " + noKeys.URL + ": the answer is 404"},
		},
	} {
		cmd := command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(append([]string{"check", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--nats-monitor", "off", "--data-dir", t.TempDir()}, tt.flags...))
		err := cmd.ExecuteContext(t.Context())
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: got %v, want %q in it", tt.flags, err, want)
			}
		}
	}
}
