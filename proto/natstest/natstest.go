// Package natstest starts real NATS servers in the process of a test, and helps tests to wait
// for conditions.
package natstest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startLimit is how long a server may take to start. waitLimit is how long [Eventually] waits.
// Both are generous, because the machine may be busy. Only a failing test waits that long.
const (
	startLimit = 20 * time.Second
	waitLimit  = 60 * time.Second
)

// Server is a NATS server on a loopback port. Only the test's goroutine may call its methods,
// except Dial, which is safe for concurrent use.
type Server struct {
	*server.Server // replaced by Restart

	opts server.Options
	url  string
}

// Start starts a server with JetStream, which stores its data in a directory of the test. The
// server stops when the test ends.
func Start(tb testing.TB, change ...func(*server.Options)) *Server {
	tb.Helper()
	opts := &server.Options{JetStream: true, StoreDir: tb.TempDir()}
	for _, f := range change {
		f(opts)
	}
	s, err := New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// New starts a server with the given options. It runs until Stop is called. It listens on any
// free port, unless the options contain a port.
func New(opts *server.Options) (*Server, error) {
	if opts.Port == 0 {
		opts.Port = -1
	}
	opts.Host, opts.NoSigs, opts.NoLog = "127.0.0.1", true, true
	s := &Server{opts: *opts}
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	s.keepAddress()
	return s, nil
}

// keepAddress makes the server use the same port after a restart.
func (s *Server) keepAddress() {
	s.opts.Port, s.url = s.Addr().(*net.TCPAddr).Port, s.ClientURL()
}

func (s *Server) run() error {
	opts := s.opts // a copy, because the server changes it
	ns, err := server.NewServer(&opts)
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	ns.Start()
	s.Server = ns
	return nil
}

func (s *Server) ready() error {
	if !s.ReadyForConnections(startLimit) {
		s.Stop()
		return fmt.Errorf("start NATS: no connection is accepted within %v", startLimit)
	}
	return nil
}

// Stop stops the server. A second call does nothing.
func (s *Server) Stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// Restart starts the server again after Stop, on the same port and with the same store.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	if err := s.run(); err != nil {
		tb.Fatal(err)
	}
	if err := s.ready(); err != nil {
		tb.Fatal(err)
	}
}

// Subscriptions returns the number of subscriptions to subjects with one of the prefixes.
func (s *Server) Subscriptions(tb testing.TB, prefixes ...string) (n int) {
	tb.Helper()
	all, err := s.Subsz(&server.SubszOptions{Subscriptions: true, Limit: 10_000})
	if err != nil {
		tb.Fatal(err)
	}
	for _, sub := range all.Subs {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(sub.Subject, prefix) }) {
			n++
		}
	}
	return n
}

// Dir returns the directory in which the server stores its data.
func (s *Server) Dir() string { return s.opts.StoreDir }

// Dial opens a connection, which reconnects for ever. The method has the type daemon.Dialer.
func (s *Server) Dial(name string, opts ...nats.Option) (*nats.Conn, error) {
	return dial(s.url, name, opts)
}

func dial(url, name string, opts []nats.Option) (*nats.Conn, error) {
	return nats.Connect(url, append([]nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectBufSize(-1),
	}, opts...)...)
}

// Connect opens a connection, which is closed when the test ends.
func (s *Server) Connect(tb testing.TB, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	nc, err := s.Dial("test", opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// Cluster starts n servers that form a cluster. They stop when the test ends.
func Cluster(tb testing.TB, n int, change ...func(*server.Options)) []*Server {
	tb.Helper()
	ports, routes := make([]int, n), make([]*url.URL, n)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		ports[i], routes[i] = ln.Addr().(*net.TCPAddr).Port, &url.URL{Scheme: "nats", Host: ln.Addr().String()}
		ln.Close()
	}
	// A server accepts connections only after it has found the others, so start all of them
	// before waiting.
	servers := make([]*Server, n)
	for i := range servers {
		opts := server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: tb.TempDir(), Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]},
		}
		for _, f := range change {
			f(&opts)
		}
		servers[i] = &Server{opts: opts}
		if err := servers[i].run(); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(servers[i].Stop)
	}
	for _, s := range servers {
		if err := s.ready(); err != nil {
			tb.Fatal(err)
		}
		s.keepAddress()
	}
	return servers
}

// Run runs a part of Roomcast until the test ends or the returned function is called. The test
// fails if the part returns an error.
func Run(tb testing.TB, part string, run func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("%s ended with %v", part, err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// Purge removes the messages of a subject from a stream. The subject ">" stands for all messages.
func Purge(tb testing.TB, nc *nats.Conn, stream, subject string) {
	tb.Helper()
	_, s := openStream(tb, nc, stream)
	if err := s.Purge(tb.Context(), jetstream.WithPurgeSubject(subject)); err != nil {
		tb.Fatal(err)
	}
}

// LimitMessages changes the largest message, in bytes, that a stream stores. -1 stands for no limit.
func LimitMessages(tb testing.TB, nc *nats.Conn, stream string, size int32) {
	tb.Helper()
	js, s := openStream(tb, nc, stream)
	cfg := s.CachedInfo().Config
	cfg.MaxMsgSize = size
	if _, err := js.UpdateStream(tb.Context(), cfg); err != nil {
		tb.Fatal(err)
	}
}

func openStream(tb testing.TB, nc *nats.Conn, name string) (jetstream.JetStream, jetstream.Stream) {
	tb.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := js.Stream(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	return js, s
}

// Eventually waits until cond returns true. The test fails if this takes longer than a minute.
func Eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	Within(tb, waitLimit, what, cond)
}

// Within waits until cond returns true. The test fails if this takes longer than the limit.
func Within(tb testing.TB, limit time.Duration, what string, cond func() bool) {
	tb.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(limit); !cond(); pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(pause)
	}
}
