package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a command with one flag of each type that the real programs use.
type service struct {
	listen string
	rate   float64
	wait   time.Duration
	strict bool
	words  []string
	nats   NATS
	ran    bool
}

func (s *service) execute(args []string, environ ...string) (code int, stderr string) {
	cmd := &cobra.Command{Use: "gateway", RunE: func(*cobra.Command, []string) error { s.ran = true; return nil }}
	flags := cmd.PersistentFlags()
	flags.StringVar(&s.listen, "listen", ":8000", "")
	flags.Float64Var(&s.rate, "rate", 20, "")
	flags.DurationVar(&s.wait, "drain-time", time.Second, "")
	flags.BoolVar(&s.strict, "strict", false, "")
	flags.StringArrayVar(&s.words, "close-word", []string{"bye"}, "")
	s.nats.Bind(flags)
	var out bytes.Buffer
	code = execute(context.Background(), cmd, args, environ, &out)
	return code, out.String()
}

func TestEnvironmentSetsFlags(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		env    []string
		check  func(s *service) bool
		stderr string // a part of the output to stderr; "" = there must be no output
		fails  bool
	}{
		{name: "defaults", check: func(s *service) bool { return s.listen == ":8000" && slices.Equal(s.words, []string{"bye"}) }},
		{name: "by the rule", env: []string{"GATEWAY_LISTEN=:1", "GATEWAY_DRAIN_TIME=3s", "GATEWAY_STRICT=true", "GATEWAY_RATE=1.5"},
			check: func(s *service) bool {
				return s.listen == ":1" && s.wait == 3*time.Second && s.strict && s.rate == 1.5
			}},
		{name: "flag beats environment", args: []string{"--listen", ":2"}, env: []string{"GATEWAY_LISTEN=:1"},
			check: func(s *service) bool { return s.listen == ":2" }},
		{name: "empty is not set", env: []string{"GATEWAY_RATE="}, check: func(s *service) bool { return s.rate == 20 }},
		{name: "names of the nats tool", env: []string{"NATS_URL=nats://n1", "NATS_CA=ca.pem", "NATS_CONTEXT=x"},
			check: func(s *service) bool {
				return s.nats.URL == "nats://n1" && s.nats.CA == "ca.pem" && s.nats.Context == "x"
			}},
		{name: "several values", env: []string{"GATEWAY_CLOSE_WORD=a,b"},
			check: func(s *service) bool { return slices.Equal(s.words, []string{"a", "b"}) }},
		{name: "a bad number", env: []string{"GATEWAY_RATE=fast"}, fails: true,
			stderr: `environment variable GATEWAY_RATE: "fast" is not a number`},
		{name: "a bad choice", env: []string{"GATEWAY_STRICT=perhaps"}, fails: true,
			stderr: `environment variable GATEWAY_STRICT: "perhaps" is not true or false`},
		{name: "a bad value that a flag hides", args: []string{"--rate", "1"}, env: []string{"GATEWAY_RATE=fast"},
			check: func(s *service) bool { return s.rate == 1 }},
		{name: "an unknown one", env: []string{"GATEWAY_LISEN=:1", "OTHER=1"}, check: func(s *service) bool { return s.ran },
			stderr: "GATEWAY_LISEN is not a setting and is ignored; did you mean GATEWAY_LISTEN?"},
		{name: "one with another name", env: []string{"GATEWAY_NATS=nats://n1"}, check: func(s *service) bool { return s.ran },
			stderr: "GATEWAY_NATS is not a setting and is ignored; did you mean NATS_URL?"},
		{name: "one that is near to none", env: []string{"GATEWAY_RUTS=1"}, check: func(s *service) bool { return s.ran },
			stderr: "GATEWAY_RUTS is not a setting and is ignored\n"},
		{name: "one of Kubernetes", env: []string{"GATEWAY_PORT_8000_TCP_ADDR=10.0.0.1"}, check: func(s *service) bool { return s.ran },
			stderr: "GATEWAY_PORT_8000_TCP_ADDR is not a setting and is ignored\n"},
		{name: "a wrong flag", args: []string{"--close-wrd", "x"}, fails: true, stderr: "did you mean --close-word?"},
		{name: "a wrong value", args: []string{"--drain-time", "x"}, fails: true, stderr: `--drain-time: "x" is not a duration`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s service
			code, stderr := s.execute(tt.args, tt.env...)
			if (code != 0) != tt.fails || s.ran == tt.fails {
				t.Errorf("got exit %d, ran %v, want failure %v", code, s.ran, tt.fails)
			}
			if !strings.Contains(stderr, tt.stderr) || (tt.stderr == "" && stderr != "") || strings.Count(stderr, "\n") > 1 {
				t.Errorf("got %q, want one line with %q", stderr, tt.stderr)
			}
			if tt.check != nil && !tt.check(&s) {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// A page in an operator's browser must not be able to read metrics or to start profiles.
func TestOpsRefusesPagesOfOtherSites(t *testing.T) {
	for _, tt := range []struct {
		listen, host, header, value string
		ok                          bool
	}{
		{"127.0.0.1:0", "127.0.0.1:9090", "", "", true},
		{"127.0.0.1:0", "localhost", "Sec-Fetch-Site", "none", true}, // the operator typed the address into the browser
		{"127.0.0.1:0", "localhost", "Sec-Fetch-Site", "same-origin", true},
		{"127.0.0.1:0", "localhost", "Sec-Fetch-Site", "cross-site", false},
		{"127.0.0.1:0", "localhost", "Sec-Fetch-Site", "same-site", false},
		{"127.0.0.1:0", "localhost", "Origin", "http://evil.example", false},
		{"127.0.0.1:0", "rebind.evil.example", "", "", false},
		{"127.0.0.1:0", "rebind.evil.example:9090", "X-Forwarded-For", "1.2.3.4", false},
		{"0.0.0.0:0", "gateway-1:9090", "", "", true},
		{"0.0.0.0:0", "gateway-1:9090", "Sec-Fetch-Site", "cross-site", false},
	} {
		running, err := Ops{Listen: tt.listen}.Serve(quiet(), NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(running.Addr().String())
		for _, path := range []string{"/metrics", "/debug/pprof/cmdline", "/debug/pprof/trace?seconds=0.01"} {
			req, err := http.NewRequest("GET", "http://127.0.0.1:"+port+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tt.host
			if tt.header != "" {
				req.Header.Set(tt.header, tt.value)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if want := map[bool]int{true: 200, false: 403}[tt.ok]; resp.StatusCode != want {
				t.Errorf("%s at %s as %s, %s: %s: got %d, want %d", path, tt.listen, tt.host, tt.header, tt.value, resp.StatusCode, want)
			}
		}
		running.Close()
	}
}

// If the listener for operators is off, the command ready uses the program's other check instead.
func TestReadyCommandDoesNotNeedTheOpsListener(t *testing.T) {
	for _, tt := range []struct {
		otherwise func(context.Context) error
		says      string
		ok        bool
	}{
		{nil, "unknown: --ops-listen is off", true},
		{func(context.Context) error { return nil }, "ready", true},
		{func(context.Context) error { return errors.New("not yet") }, "", false},
	} {
		cmd := ReadyCommand(&Ops{Listen: "off"}, tt.otherwise)
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetArgs(nil)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.ExecuteContext(t.Context()); (err == nil) != tt.ok || !strings.HasPrefix(out.String(), tt.says) {
			t.Errorf("got %q, %v, want %q, ok %v", &out, err, tt.says, tt.ok)
		}
	}
}

func TestOpsServesMetricsAndReadiness(t *testing.T) {
	reg := NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "roomcast_test"}))
	trouble := errors.New("no NATS")
	ops := Ops{Listen: "127.0.0.1:0"}
	running, err := ops.Serve(quiet(), reg,
		Probe{"gateway", func() error { return trouble }}, Probe{"roomsvc", func() error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + running.Addr().String()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	for _, tt := range []struct {
		path string
		code int
		part string
	}{
		{"/healthz", 200, "ok"},
		{"/readyz", 503, "gateway: no NATS"},
		{"/metrics", 200, "roomcast_test 0"},
		{"/metrics", 200, "go_goroutines"},
		{"/debug/pprof/", 200, "goroutine"},
		{"/", 404, ""},
	} {
		if code, body := get(tt.path); code != tt.code || !strings.Contains(body, tt.part) {
			t.Errorf("%s: got %d %.200q, want %d with %q", tt.path, code, body, tt.code, tt.part)
		}
	}
	asked := Ops{Listen: running.Addr().String()}
	if err := asked.ask(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "not ready: gateway: no NATS") {
		t.Errorf("ready: got %v, want the reason", err)
	}
	trouble = nil
	if code, _ := get("/readyz"); code != 200 {
		t.Errorf("/readyz: got %d, want 200", code)
	}
	if err := asked.ask(t.Context(), io.Discard); err != nil {
		t.Errorf("ready: got %v, want nil", err)
	}

	if _, err := asked.Serve(quiet(), reg); err == nil || !strings.Contains(err.Error(), "--ops-listen") {
		t.Errorf("a port in use: got %v, want an error that names --ops-listen", err)
	}
	running.Close()
	http.DefaultClient.CloseIdleConnections()
}

// Some programs send a signal twice in a row. The process must still stop in an orderly way.
func TestSecondSignalAtOnceCountsAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, signal := context.WithCancel(t.Context())
		stopped := make(chan time.Time, 1)
		afterSignal(ctx, func() { stopped <- time.Now() })
		first := time.Now()
		signal()
		if after := (<-stopped).Sub(first); after != sameSignal {
			t.Errorf("a second signal ends the process at once %s after the first, want %s", after, sameSignal)
		}
	})
}
