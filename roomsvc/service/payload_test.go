package service

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"roomcast/proto"
)

// logBuffer collects log lines. It is safe for concurrent use.
type logBuffer struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.Write(p)
}

func (b *logBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.bytes.String(), text)
}

// logTo makes a service write its log to b too.
func logTo(t testing.TB, b *logBuffer) func(*Config) {
	return func(c *Config) {
		var out io.Writer = b
		if testing.Verbose() {
			out = io.MultiWriter(b, t.Output())
		}
		c.Log = slog.New(slog.NewTextHandler(out, nil))
	}
}

// An operator lowers max_payload of NATS. The owner then refuses messages whose records are too
// large. Other rooms are not disturbed, because the commit connection breaks at most once.
func TestRecordAboveALoweredMaxPayloadIsRefused(t *testing.T) {
	var opts *server.Options
	srv := startNATS(t, true, func(o *server.Options) { o.MaxPayload = 1 << 20; opts = o.Clone() })
	var logged logBuffer
	_, stop := startService(t, srv, keepAll, logTo(t, &logged))
	defer stop()
	c := startSenders(t, srv, 4, "hall", "lobby")
	c.waitAcks(t, 100)

	opts.MaxPayload = 32 << 10
	opts.Host, opts.NoSigs, opts.NoLog = "127.0.0.1", true, true
	opts.Port = srv.Addr().(*net.TCPAddr).Port
	if err := srv.ReloadOptions(opts); err != nil {
		t.Fatal(err)
	}
	nc := srv.Connect(t)
	for range 5 {
		large := message("hall", "u", "", strings.Repeat(`"`, 20<<10)) // each byte needs two in the record
		if r := askUntil(t, nc, large, final); r.Refusal == nil || r.Refusal.Code != proto.TooLarge {
			t.Fatalf("got %+v, want too_large", r)
		}
		c.waitAcks(t, 50)
	}
	c.check(t, srv)
	if n := logged.count("gave up commit connection"); n > 1 {
		t.Errorf("the commit connection broke %d times", n)
	}
}
