// Package backend asks the application's backend whether a client may connect, join a room or say
// something. It asks over HTTP, or over a transport that the gateway supplies.
//
// Two files contain pure rules. answer.go reads answers. breaker.go decides when to stop asking a
// backend that does not answer. Only Run blocks its caller.
package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"roomcast/proto"
)

// Kind is the kind of a question.
type Kind string

// The kinds of questions.
const (
	Connect Kind = "connect" // may this client begin a session, with which identity and rights?
	Join    Kind = "join"    // may the client join this room?
	Say     Kind = "say"     // may the client say this, and with which content?
)

// Config configures a Backend.
type Config struct {
	Ask        []string      // the kinds of questions to ask
	URL        string        // questions are posted to this URL; "" = they go over the transport of New
	CAFile     string        // file with PEM certificates of authorities for the backend's certificate; "" = those of the system
	Insecure   bool          // URL may begin with http
	SecretFile string        // file with the secret that signs the posts; "" = they are not signed
	Headers    []string      // headers of a client's request that the backend receives
	Timeout    time.Duration // how long to wait for an answer
	Inflight   int           // questions that may wait for an answer; further questions fail at once
	Fail       string        // deny or allow: the result of a question that is not answered
	MaxMessage int           // the most bytes of content that an answer to say may contain
	Log        *slog.Logger
}

// DefaultConfig returns the default values of the flags.
func DefaultConfig() Config {
	return Config{Timeout: 2 * time.Second, Inflight: 1000, Fail: "deny", MaxMessage: 64 << 10, Log: slog.Default()}
}

// Check returns an error if a setting is wrong. The error names the flag.
func (c *Config) Check() error {
	for _, kind := range c.Ask {
		if !slices.Contains([]Kind{Connect, Join, Say}, Kind(kind)) {
			return fmt.Errorf("--ask: %q is not connect, join or say", kind)
		}
	}
	for i, name := range c.Headers {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return fmt.Errorf("--ask-header: %q is not the name of a header", name)
		}
		if slices.ContainsFunc(c.Headers[:i], func(other string) bool { return strings.EqualFold(other, name) }) {
			return fmt.Errorf("--ask-header: %s is given twice", name)
		}
	}
	switch {
	case len(c.Ask) == 0 && (c.URL != "" || len(c.Headers) > 0):
		return errors.New("--ask-url and --ask-header need --ask")
	case c.URL == "" && (c.CAFile != "" || c.Insecure || c.SecretFile != ""):
		return errors.New("--ask-ca, --ask-insecure and --ask-secret-file need --ask-url")
	case c.Timeout < 10*time.Millisecond || c.Timeout > 8*time.Second:
		return errors.New("--ask-timeout must be 10ms to 8s")
	case c.Inflight < 1:
		return errors.New("--ask-inflight must be at least 1")
	case c.Fail != "deny" && c.Fail != "allow":
		return fmt.Errorf("--ask-fail: %q is neither deny nor allow", c.Fail)
	}
	if c.URL == "" {
		return nil
	}
	_, err := newPoster(c)
	return err
}

// Asks reports whether the gateway asks questions of this kind.
func (c *Config) Asks(kind Kind) bool { return slices.Contains(c.Ask, string(kind)) }

// Transport carries questions to the backend. It is safe for concurrent use.
type Transport interface {
	// Ask sends a question and returns the answer. If the error is a *proto.Refusal, the backend
	// has refused. Any other error means that there is no answer.
	Ask(ctx context.Context, kind Kind, question []byte) ([]byte, error)
}

// Question is a question about one client. When Ask has returned, the caller may change it.
type Question struct {
	Kind    Kind
	Session string // "" = the client has sent a request to the HTTP API
	Who     proto.Identity
	Room    proto.Room // zero with connect
	Headers map[string]string
	Content proto.Content // with say
	Verb    proto.Verb    // with say: the verb of the command with the content
}

// noAnswerRetry is how long a client must wait before it tries again.
const noAnswerRetry = time.Second

// The refusals for questions that were not answered.
var (
	errNoAnswer = proto.Refuse(proto.Unavailable, "the application cannot be asked now; try again").After(noAnswerRetry)
	errBusy     = proto.Refuse(proto.Overloaded, "too many questions to the application are waiting; try again").After(noAnswerRetry)
)

// Backend asks the application's backend. Its methods are safe for concurrent use, and only Run
// blocks. A nil *Backend asks nothing.
type Backend struct {
	// static
	cfg       Config
	transport Transport
	queue     chan request // never full, because open is bounded

	open    atomic.Int64 // number of questions that wait for an answer; at most Inflight
	breaker breaker
}

type request struct {
	kind     Kind
	verb     proto.Verb
	question []byte
	deadline time.Time
	done     func(Answer, error)
}

// New returns a Backend that sends its questions to the URL in cfg. If there is no URL, it sends
// them over transport. If cfg contains no kinds of questions, New returns nil.
func New(cfg Config, transport Transport) (*Backend, error) {
	if err := cfg.Check(); err != nil || len(cfg.Ask) == 0 {
		return nil, err
	}
	if cfg.URL != "" {
		p, err := newPoster(&cfg)
		if err != nil {
			return nil, err
		}
		transport = p
	}
	return &Backend{cfg: cfg, transport: transport, queue: make(chan request, cfg.Inflight)}, nil
}

// Asks reports whether the gateway asks questions of this kind.
func (b *Backend) Asks(kind Kind) bool { return b != nil && b.cfg.Asks(kind) }

// Headers returns the names of the headers that the backend receives.
func (b *Backend) Headers() []string {
	if b == nil {
		return nil
	}
	return b.cfg.Headers
}

// Ask asks a question. It calls done once: before it returns, or later from a goroutine of Run.
// The error is a *proto.Refusal. Its code is forbidden if the backend has refused, and
// unavailable if the backend has not answered. It is overloaded if too many questions wait for
// an answer. The function done must not block.
func (b *Backend) Ask(q *Question, done func(Answer, error)) {
	now := time.Now()
	if b.open.Add(1) > int64(b.cfg.Inflight) {
		b.open.Add(-1)
		b.fail(errBusy, done)
		return
	}
	if !b.breaker.allow(now) {
		b.open.Add(-1)
		b.fail(errNoAnswer, done)
		return
	}
	b.queue <- request{q.Kind, q.Verb, q.appendJSON(nil), now.Add(b.cfg.Timeout), done} // this does not block, because open is bounded
}

// fail ends a question that was not answered. The flag --ask-fail decides whether this allows or
// refuses what was asked.
func (b *Backend) fail(why *proto.Refusal, done func(Answer, error)) {
	if b.cfg.Fail == "allow" {
		done(Answer{Unasked: true}, nil)
		return
	}
	done(Answer{}, why)
}

// Run sends the questions to the backend until ctx ends.
func (b *Backend) Run(ctx context.Context) {
	if b == nil {
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-b.queue:
			running.Go(func() { b.serve(ctx, &r) })
		}
	}
}

// serve asks one question.
func (b *Backend) serve(ctx context.Context, r *request) {
	ctx, cancel := context.WithDeadline(ctx, r.deadline)
	defer cancel()
	body, err := b.transport.Ask(ctx, r.kind, r.question)
	b.open.Add(-1)
	denied, refused := errors.AsType[*proto.Refusal](err)
	if opened := b.breaker.count(err == nil || refused, time.Now()); opened {
		b.cfg.Log.Error("backend does not answer; pausing questions", "question", string(r.kind), "error", err)
	}
	switch {
	case refused:
		r.done(Answer{}, denied)
		return
	case err != nil:
		b.fail(errNoAnswer, r.done)
		return
	}
	a, err := parseAnswer(r.kind, body, b.cfg.MaxMessage, time.Now())
	if err == nil {
		err = a.checkFor(r.verb)
	}
	switch denied, refused = errors.AsType[*proto.Refusal](err); {
	case refused:
		r.done(Answer{}, denied)
	case err != nil:
		b.cfg.Log.Error("read answer of the backend", "question", string(r.kind), "error", err)
		b.fail(errNoAnswer, r.done)
	default:
		r.done(a, nil)
	}
}

// appendJSON appends the question in the form that the backend receives.
func (q *Question) appendJSON(b []byte) []byte {
	form := struct {
		Ask     Kind              `json:"ask"`
		Session string            `json:"session,omitempty"`
		ID      string            `json:"id,omitempty"`
		Name    string            `json:"name,omitempty"`
		Room    string            `json:"room,omitempty"`
		Headers map[string]string `json:"headers,omitempty"`
		Signal  bool              `json:"signal,omitempty"`
		Content *content          `json:"content,omitempty"`
	}{Ask: q.Kind, Session: q.Session, ID: q.Who.ID, Name: q.Who.Name, Headers: q.Headers, Signal: q.Verb == proto.VerbSignal}
	if !q.Room.IsZero() {
		form.Room = q.Room.String()
	}
	if q.Kind == Say {
		form.Content = contentOf(q.Content)
	}
	out := bytes.NewBuffer(b)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(form); err != nil {
		panic(err) // this cannot happen, because data is JSON that was checked
	}
	return out.Bytes()
}

// content is the content of a message in the JSON of a question.
type content struct {
	Type string          `json:"type,omitempty"`
	Text *string         `json:"text,omitempty"`
	Data json.RawMessage `json:"data,omitempty"`
	Bin  []byte          `json:"bin,omitempty"`
}

func contentOf(c proto.Content) *content {
	f := &content{Type: c.Type}
	switch c.Kind {
	case proto.Text:
		text := string(c.Body)
		f.Text = &text
	case proto.Bin:
		f.Bin = c.Body
	default: // a signal need not have data
		f.Data = c.Body
	}
	return f
}
