package backend

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
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

	"roomcast/proto"
)

// Only an answer that follows every rule allows something. Any other answer counts as no answer.
// If the backend denies, its answer contains a reason.
func TestAnswersAreReadStrictly(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	const allowed, denied, none = "allowed", "denied", "no answer"
	for _, tt := range []struct {
		kind   Kind
		answer string
		want   string
	}{
		{Connect, `{"allow":true}`, allowed},
		{Connect, `{"allow":true,"id":"ann","name":"Ann","rooms":{"lobby":"read"},"until":"2026-11-27T13:00:00Z","other":[1]}`, allowed},
		{Connect, `{"allow":true,"rooms":{}}`, allowed},
		{Join, `{"allow":true,"rooms":"ignored","id":7}`, allowed},
		{Say, `{"allow":true,"content":{"text":"hi"}}`, allowed},
		{Say, `{"allow":true,"content":{"data":{"a":1},"type":"x.y"}}`, allowed},
		{Connect, `{"allow":false}`, denied},
		{Connect, `{"allow":false,"why":"because","id":"*"}`, denied},
		{Connect, `{"allow":true,"until":"2026-11-27T12:00:00Z"}`, denied},
		{Join, `{"allow":true,"until":"2020-01-01T00:00:00+01:00"}`, denied},
		{Connect, ``, none},
		{Connect, `true`, none},
		{Connect, `[]`, none},
		{Connect, `null`, none},
		{Connect, `{}`, none},
		{Connect, `{"allow":"true"}`, none},
		{Connect, `{"allow":1}`, none},
		{Connect, `{"allow":null}`, none},
		{Connect, `{"Allow":true}`, none},
		{Connect, `{"allow":true`, none},
		{Connect, `{"allow":true}}`, none},
		{Connect, `{"allow":true}]`, none},
		{Connect, `{"allow":true} {"allow":true}`, none},
		{Connect, `{"allow":false,"allow":true}`, none},
		{Connect, `<html>allow</html>`, none},
		{Connect, `{"allow":true,"id":7}`, none},
		{Connect, `{"allow":true,"id":null}`, none},
		{Connect, `{"allow":true,"id":"anon-1"}`, none},
		{Connect, `{"allow":true,"id":"api"}`, none},
		{Connect, `{"allow":true,"id":"*guests"}`, none},
		{Connect, `{"allow":true,"id":" ann"}`, none},
		{Connect, `{"allow":true,"id":"\ud800"}`, none},
		{Connect, `{"allow":true,"id":"a\u0007"}`, none},
		{Connect, `{"allow":true,"name":"\u202e"}`, none},
		{Connect, `{"allow":true,"rooms":null}`, none},
		{Connect, `{"allow":true,"rooms":"*"}`, none},
		{Connect, `{"allow":true,"rooms":{"lobby":"admin"}}`, none},
		{Connect, `{"allow":true,"rooms":{"a":"read","a":"say"}}`, none},
		{Connect, `{"allow":true,"rooms":{"a*b":"read"}}`, none},
		{Connect, `{"allow":true,"until":1790000000}`, none},
		{Connect, `{"allow":true,"until":"tomorrow"}`, none},
		{Connect, `{"allow":false,"why":7}`, none},
		{Say, `{"allow":true,"content":"hi"}`, none},
		{Say, `{"allow":true,"content":{}}`, none},
		{Say, `{"allow":true,"content":{"text":"hi","room":"other"}}`, none},
		{Say, `{"allow":true,"content":{"text":"hi","key":"k"}}`, none},
		{Say, `{"allow":true,"content":{"text":"hi","data":1}}`, none},
		{Say, `{"allow":true,"content":{"text":"` + strings.Repeat("x", 101) + `"}}`, none},
		{Say, `{"allow":true,"content":{"text":"hi"}},"join":{"room":"other"}`, none},
		{Say, `{"allow":true,"content":{"text":"hi"},"x":"` + strings.Repeat("x", maxAnswer) + `"}`, none},
	} {
		got := allowed
		a, err := parseAnswer(tt.kind, []byte(tt.answer), 100, now)
		if _, ok := errors.AsType[*proto.Refusal](err); ok {
			got = denied
		} else if err != nil {
			got = none
		}
		if got != tt.want {
			t.Errorf("%s %.100s: got %s (%+v, %v), want %s", tt.kind, tt.answer, got, a, err, tt.want)
		}
	}
}

func TestBreakerStopsAskingASilentBackend(t *testing.T) {
	var b breaker
	now := time.Unix(1e9, 0)
	fail := func(n int) (opened bool) {
		for range n {
			opened = b.count(false, now) || opened
		}
		return opened
	}
	if fail(maxFailures-1) || !b.allow(now) {
		t.Fatal("the pause began too early")
	}
	b.count(true, now)
	if fail(maxFailures-1) || !fail(1) || b.allow(now) {
		t.Fatal("no pause after five failures in succession")
	}
	fail(100) // failures of questions that were asked before the pause
	pause := minPause
	for range 8 {
		if now = now.Add(pause - time.Nanosecond); b.allow(now) {
			t.Fatalf("asked before the end of a pause of %v", pause)
		}
		if now = now.Add(time.Nanosecond); !b.allow(now) || b.allow(now) {
			t.Fatalf("after %v: want one question to pass", pause)
		}
		fail(1)
		pause = min(2*pause, maxPause)
	}
	now = now.Add(pause)
	if !b.allow(now) || b.count(true, now) || !b.allow(now) || !b.allow(now) {
		t.Fatal("an answer did not end the pause")
	}
}

// ask makes a Backend with this configuration and asks it one question.
func ask(t *testing.T, cfg Config, q *Question) (Answer, error) {
	t.Helper()
	b, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	defer func() { stop(); <-ended }()
	type outcome struct {
		a   Answer
		err error
	}
	got := make(chan outcome, 1)
	b.Ask(q, func(a Answer, err error) { got <- outcome{a, err} })
	o := <-got
	return o.a, o.err
}

// Only status 200 with a valid body is an answer. If the backend has the wrong certificate, it
// receives no question.
func TestHTTPBackend(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan http.Header, 100)
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Header.Set("Test-Body", string(body))
		asked <- r.Header
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/good", http.StatusTemporaryRedirect)
		case "/401":
			w.WriteHeader(401)
		case "/403":
			w.WriteHeader(403)
		case "/500":
			w.WriteHeader(500)
			io.WriteString(w, `{"allow":true}`)
		case "/204":
			w.WriteHeader(204)
		case "/hang":
			<-release
		case "/huge":
			io.WriteString(w, `{"allow":true,"x":"`+strings.Repeat("x", maxAnswer)+`"}`)
		default:
			io.WriteString(w, `{"allow":true,"id":"ann"}`)
		}
	})
	plain, secure := httptest.NewServer(serve), httptest.NewTLSServer(serve)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	defer plain.Close()
	defer secure.Close()
	defer close(release)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets := filepath.Join(t.TempDir(), "secrets")
	key := []byte(strings.Repeat("k", 24))
	if err := os.WriteFile(secrets, []byte(strings.Repeat("s", 32)+"\nwhsec_"+base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := DefaultConfig()
	base.Ask, base.Timeout, base.Log = []string{"connect"}, 8*time.Second, slog.New(slog.DiscardHandler)
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   proto.Code // "" = the backend allows
	}{
		{"good", func(c *Config) { c.URL = plain.URL + "/good" }, ""},
		{"signed, with its own authority", func(c *Config) { c.URL, c.CAFile, c.SecretFile = secure.URL, ca, secrets }, ""},
		{"unknown authority", func(c *Config) { c.URL = secure.URL }, proto.Unavailable},
		{"redirect", func(c *Config) { c.URL = plain.URL + "/redirect" }, proto.Unavailable},
		{"401", func(c *Config) { c.URL = plain.URL + "/401" }, proto.Forbidden},
		{"403", func(c *Config) { c.URL = plain.URL + "/403" }, proto.Forbidden},
		{"500", func(c *Config) { c.URL = plain.URL + "/500" }, proto.Unavailable},
		{"204", func(c *Config) { c.URL = plain.URL + "/204" }, proto.Unavailable},
		{"late", func(c *Config) { c.URL, c.Timeout = plain.URL+"/hang", 50*time.Millisecond }, proto.Unavailable},
		{"huge", func(c *Config) { c.URL = plain.URL + "/huge" }, proto.Unavailable},
		{"nobody there", func(c *Config) { c.URL = "http://127.0.0.1:1/" }, proto.Unavailable},
	} {
		cfg := base
		tt.change(&cfg)
		q := Question{Kind: Connect, Session: "s1", Who: proto.Identity{ID: "anon-x"}, Headers: map[string]string{"Cookie": "a=<b>"}}
		a, err := ask(t, cfg, &q)
		if tt.want == "" && (err != nil || a.Who.ID != "ann") || tt.want != "" && (err == nil || proto.AsRefusal(err).Code != tt.want) {
			t.Errorf("%s: got %+v, %v, want %q", tt.name, a, err, tt.want)
		}
		if cfg.Fail = "allow"; tt.want == proto.Unavailable {
			if a, err := ask(t, cfg, &q); err != nil || !a.Unasked {
				t.Errorf("%s with --ask-fail allow: got %+v, %v", tt.name, a, err)
			}
		}
		for signed := false; len(asked) > 0; {
			h := <-asked
			body := h.Get("Test-Body")
			if want := `{"ask":"connect","session":"s1","id":"anon-x","headers":{"Cookie":"a=<b>"}}`; strings.TrimSpace(body) != want {
				t.Errorf("%s: got the question %s, want %s", tt.name, body, want)
			}
			if signed = cfg.SecretFile != ""; signed {
				mac := hmac.New(sha256.New, key)
				fmt.Fprintf(mac, "%s.%s.%s", h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), body)
				list := strings.Fields(h.Get("Webhook-Signature"))
				if len(list) != 2 || list[1] != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
					t.Errorf("%s: got the signatures %v", tt.name, list)
				}
			}
		}
	}
}

// If the content in an answer cannot be stored, the client is not to blame. The client may try
// again. The operator finds one error in the log.
func TestMalformedContentCountsAsNoAnswer(t *testing.T) {
	var body atomic.Value
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"allow":true,"content":`+body.Load().(string)+`}`)
	}))
	defer application.Close()
	const text, data, bin = `{"text":"a"}`, `{"data":1,"type":"x"}`, `{"bin":"AAAA"}`
	for _, tt := range []struct {
		verb    proto.Verb
		content string
		good    bool
	}{
		{proto.VerbSay, text, true}, {proto.VerbSay, data, true}, {proto.VerbSay, bin, true},
		{proto.VerbEdit, text, true}, {proto.VerbEdit, data, false}, {proto.VerbEdit, bin, false},
		{proto.VerbSignal, text, false}, {proto.VerbSignal, data, true}, {proto.VerbSignal, bin, false},
		{proto.VerbSay, `{"text":"a","data":1}`, false},
		{proto.VerbEdit, `{"text":"a","data":1}`, false},
		{proto.VerbSay, `{"text":5}`, false},
		{proto.VerbSay, `{"text":"a","type":"a b"}`, false},
		{proto.VerbSay, `{"bin":"%"}`, false},
		{proto.VerbSay, `{"text":"a","line":true,"type":"x"}`, false},
		{proto.VerbSay, `{"text":"a","room":"a..b"}`, false},
		{proto.VerbSay, `{"text":"a","key":"a b"}`, false},
	} {
		body.Store(tt.content)
		log := new(strings.Builder)
		cfg := DefaultConfig()
		cfg.Ask, cfg.URL, cfg.Timeout, cfg.Log = []string{"say"}, application.URL, 8*time.Second, slog.New(slog.NewTextHandler(log, nil))
		a, err := ask(t, cfg, &Question{Kind: Say, Verb: tt.verb, Content: proto.Content{Kind: proto.Text, Body: []byte("hi")}})
		if tt.good {
			if err != nil || a.Content == nil || log.Len() > 0 {
				t.Errorf("%s answered by %s: got %v and the log %q", tt.verb, tt.content, err, log)
			}
			continue
		}
		if refusal := proto.AsRefusal(err); err == nil || refusal.Code != proto.Unavailable || !refusal.Temporary() {
			t.Errorf("%s answered by %s: got %v, want unavailable with a time to wait", tt.verb, tt.content, err)
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "content") {
			t.Errorf("%s answered by %s: got the log %q, want one error", tt.verb, tt.content, got)
		}
	}
}

// waiting is a Transport that answers late. It plays a slow backend.
type waiting struct {
	open  atomic.Int64
	allow chan struct{}
}

func (w *waiting) Ask(ctx context.Context, _ Kind, _ []byte) ([]byte, error) {
	w.open.Add(1)
	select {
	case <-w.allow:
		return []byte(`{"allow":true}`), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// If there are --ask-inflight open questions, the gateway refuses further questions at once.
// Every question ends exactly once.
func TestOpenQuestionsAreBounded(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Ask, cfg.Inflight, cfg.Timeout = []string{"say"}, 8, 8*time.Second
	w := &waiting{allow: make(chan struct{})}
	b, err := New(cfg, w)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	outcomes := make(chan error, 100)
	for range 20 {
		b.Ask(&Question{Kind: Say, Content: proto.Content{Kind: proto.Text, Body: []byte("hi")}}, func(_ Answer, err error) { outcomes <- err })
	}
	for range 12 {
		if err := <-outcomes; err == nil || proto.AsRefusal(err).Code != proto.Overloaded {
			t.Fatalf("got %v, want overloaded", err)
		}
	}
	close(w.allow)
	for range 8 {
		if err := <-outcomes; err != nil {
			t.Fatalf("got %v, want an answer", err)
		}
	}
	stop()
	<-ended
	if n := w.open.Load(); n != 8 || len(outcomes) != 0 {
		t.Errorf("asked %d questions and %d outcomes too many, want 8 and 0", n, len(outcomes))
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"--ask:":                    func(c *Config) { c.Ask = []string{"leave"} },
		"--ask-header:":             func(c *Config) { c.Headers = []string{"a b"} },
		"given twice":               func(c *Config) { c.Headers = []string{"Cookie", "cookie"} },
		"need --ask":                func(c *Config) { c.Ask, c.URL = nil, "https://x" },
		"need --ask-url":            func(c *Config) { c.SecretFile = "x" },
		"--ask-timeout":             func(c *Config) { c.Timeout = time.Minute },
		"--ask-inflight":            func(c *Config) { c.Inflight = 0 },
		"--ask-fail":                func(c *Config) { c.Fail = "maybe" },
		"must be https":             func(c *Config) { c.URL = "http://example.org/" },
		"is not a URL":              func(c *Config) { c.URL = "ftp://example.org/" },
		"--ask-ca: open none":       func(c *Config) { c.URL, c.CAFile = "https://x", "none" },
		"--ask-secret-file: open n": func(c *Config) { c.URL, c.SecretFile = "https://x", "none" },
	} {
		cfg := DefaultConfig()
		cfg.Ask = []string{"connect", "join", "say"}
		change(&cfg)
		if _, err := New(cfg, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"allow":true,"id":"ann","rooms":{"a":"read"},"until":"2026-11-27T13:00:00Z","content":{"text":"x"}}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, kind := range []Kind{Connect, Join, Say} {
			a, err := parseAnswer(kind, []byte(body), 100, time.Unix(0, 0))
			var object struct{ Allow any }
			if err == nil && (json.Unmarshal([]byte(body), &object) != nil || proto.ReservedID(a.Who.ID)) {
				t.Errorf("%s: %q is an answer: %+v", kind, body, a)
			}
		}
	})
}
