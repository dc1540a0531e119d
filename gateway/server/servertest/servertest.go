// Package servertest runs gateways for tests, and connects to them over HTTP and WebSocket.
package servertest

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"roomcast/gateway/server"
	"roomcast/proto/daemon"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// limit is how long a test waits for a frame or a connection. Only a failing test waits that
// long.
const limit = 20 * time.Second

// Serve runs a gateway with a NATS server and a room service of its own until the test ends. It
// returns the gateway's URL. The flags are flags of the gateway's command line.
func Serve(t *testing.T, flags ...string) string {
	t.Helper()
	return ServeLogging(t, nil, flags...)
}

// ServeLogging is like Serve. The gateway writes its log to log. If log is nil, it writes to the
// output of the test.
func ServeLogging(t *testing.T, log io.Writer, flags ...string) string {
	t.Helper()
	base, stop := serve(t, log, flags)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	return base
}

// ServeUntil is like Serve, for tests that stop the gateway themselves. The function stop
// returns the result of the gateway. It may be called more than once.
func ServeUntil(t *testing.T, flags ...string) (base string, stop func() error) {
	t.Helper()
	return serve(t, nil, flags)
}

func serve(t *testing.T, to io.Writer, flags []string) (base string, stop func() error) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	ns := natstest.Start(t)
	rooms := service.DefaultConfig()
	rooms.Dial, rooms.Log, rooms.TimeZone = ns.Dial, log, "UTC"
	svc, err := service.New(rooms)
	if err != nil {
		t.Fatal(err)
	}
	cfg := server.DefaultConfig()
	metrics := prometheus.NewRegistry()
	cfg.ID, cfg.Dial, cfg.Log, cfg.Metrics = daemon.NewID(), ns.Dial, log, metrics
	if to != nil {
		cfg.Log = slog.New(slog.NewTextHandler(to, nil))
	}
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	cfg.Bind(set)
	if err := set.Parse(append([]string{"--listen", "127.0.0.1:0", "--drain-time", "50ms"}, flags...)); err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}

	svcCtx, stopService := context.WithCancel(context.Background())
	srvCtx, stopServer := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := svc.Run(svcCtx); err != nil {
			t.Errorf("the room service ended with %v", err)
		}
	})
	started, done := make(chan string, 1), make(chan struct{})
	var ended error
	go func() {
		defer close(done)
		ended = srv.Run(srvCtx, func(address string) { started <- address })
	}()
	// The gateway must stop first, because it still needs the answers of the room service.
	stop = func() error {
		stopServer()
		<-done
		stopService()
		running.Wait()
		return ended
	}
	select {
	case address := <-started:
		registries.Store(cfg.URL(address), metrics)
		return cfg.URL(address), stop
	case <-done:
	case <-time.After(limit):
	}
	t.Fatalf("the gateway does not serve: %v", stop())
	return "", nil
}

// registries contains the metrics of the gateways, by URL.
var registries sync.Map

// Sessions returns the number of sessions of the gateway with this URL. It reads the number from
// the gateway's metrics.
func Sessions(t *testing.T, base string) int {
	t.Helper()
	registry, _ := registries.Load(base)
	families, err := registry.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "roomcast_gateway_sessions" {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatal("there is no metric of sessions")
	return 0
}

// File makes a file that contains the text, and returns its path.
func File(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Call sends one HTTP request. The parameter header contains names and values in turn.
func Call(t *testing.T, method, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // so that no goroutine remains after the request
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Join opens a session at a path such as room/lobby/?last=1.
func Join(t *testing.T, base, path string, protocols ...string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(base, "http", "ws", 1)+path, &websocket.DialOptions{Subprotocols: protocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

// Send sends a text frame.
func Send(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// Next returns the next frame, or the close code.
func Next(t *testing.T, conn *websocket.Conn) (string, websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, p, err := conn.Read(ctx)
	if err != nil {
		code := websocket.CloseStatus(err)
		if code < 0 {
			t.Fatalf("read: %v", err)
		}
		return "", code
	}
	return string(p), 0
}

// Hear checks that the next frame ends with the text.
func Hear(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	if got, code := Next(t, conn); !strings.HasSuffix(got, text) {
		t.Fatalf("got %q, close code %d, want %q", got, code, text)
	}
}
