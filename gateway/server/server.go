// Package server puts a gateway together: event loops with their sessions, the bridge to NATS,
// and the HTTP server (page and API) on the same port. It starts and stops these parts.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/session"
	"roomcast/proto/daemon"
)

// Server is one gateway. Run must be called once. Ready is safe for concurrent use.
type Server struct {
	cfg     Config
	memory  *limit.Budget // shared by the loops and the bridge
	rates   *limit.Rates  // rate limits of senders, shared by the loops and the HTTP API
	bridge  *bridge.Bridge
	keys    auth.SigningKeys
	revoked auth.Revocations
	ask     *backend.Backend // nil = there is no backend
	stats   stats
	phase   atomic.Pointer[string] // why the server is not ready; nil = it is ready
}

// New checks cfg and returns a server. The server does nothing until Run is called.
func New(cfg Config) (*Server, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, memory: limit.NewBudget(cfg.Memory), rates: limit.NewRates()}
	s.stats.memory = s.memory
	s.set("waiting for NATS")
	b := bridge.DefaultConfig()
	b.ID, b.Version, b.Dial, b.Keys, b.Log = cfg.ID, daemon.Version, cfg.Dial, cfg.Keys, cfg.Log
	b.Carrier, b.Signing, b.Revoked = cfg.Carrier, &s.keys, &s.revoked
	b.Publish.LogMessages = cfg.LogMessages
	b.Stats = s.stats.summary
	b.Memory, b.Follow.MaxRooms = s.memory, cfg.MaxRooms
	var err error
	if s.bridge, err = bridge.New(b); err != nil {
		return nil, err
	}
	cfg.Ask.Log, cfg.Ask.MaxMessage = cfg.Log, cfg.MaxMessage
	if s.ask, err = backend.New(cfg.Ask, asker{s.bridge}); err != nil {
		return nil, err
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(&s.stats, s.bridge)
	}
	return s, nil
}

// Ready returns nil if the server accepts connections and is connected to NATS. Otherwise it
// returns the reason.
func (s *Server) Ready() error {
	if why := s.phase.Load(); why != nil {
		return errors.New(*why)
	}
	return s.bridge.Ready()
}

// URL returns the address of the page, if the gateway listens on the given address.
func (c Config) URL(address string) string {
	scheme := "http"
	if c.CertFile != "" {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + c.PathPrefix + "/"
}

// Run serves until ctx ends. When it has begun to listen, it calls started with the address.
// After the end of ctx, it closes all sessions, waits for the answers to their messages and
// returns nil. If the gateway cannot continue, Run stops earlier and returns an error.
func (s *Server) Run(ctx context.Context, started func(address string)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	// The bridge must run longer than the sessions, because it sends their last messages.
	bridgeCtx, stopBridge := context.WithCancel(context.WithoutCancel(ctx))
	var bridgeDone sync.WaitGroup
	bridgeDone.Go(func() {
		if err := s.bridge.Run(bridgeCtx); err != nil {
			cancel(err)
		}
	})
	defer bridgeDone.Wait()
	defer stopBridge()

	if err := s.awaitBridge(ctx); err != nil {
		return err
	}
	lis, err := s.open()
	if err != nil {
		return err
	}
	lis.run(cancel)
	s.phase.Store(nil)
	s.cfg.Log.Info("gateway is serving", "id", s.cfg.ID, "address", lis.addr.String(), "loops", len(lis.loops))
	started(lis.addr.String())

	<-ctx.Done()
	s.set("stopping")
	lis.drain(s.cfg.DrainTime, s.cfg.Log)
	lis.wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (s *Server) set(why string) { s.phase.Store(&why) }

// awaitBridge waits until the bridge is connected and knows the signing keys.
func (s *Server) awaitBridge(ctx context.Context) error {
	check := time.NewTicker(20 * time.Millisecond)
	defer check.Stop()
	warn := time.NewTimer(3 * time.Second)
	defer warn.Stop()
	for s.bridge.Ready() != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-warn.C:
			s.cfg.Log.Warn("waiting for NATS", "reason", s.bridge.Ready())
		case <-check.C:
		}
	}
	return nil
}

// listener contains the parts that serve connections: the event loops with their sessions, and
// the HTTP server. The goroutine of Server.Run owns it. Each loop owns its sessions.
type listener struct {
	addr     net.Addr
	loops    []*loop.Loop
	sessions []*session.Sessions
	auth     *auth.Auth
	ask      *backend.Backend
	handoff  *handoff
	http     *http.Server
	stop     context.CancelFunc // ends the loops
	ctx      context.Context    // context of the loops
	running  sync.WaitGroup
	broken   chan struct{} // closed when a loop fails
	once     sync.Once
}

// open opens the listener, and makes the event loops and the parts that serve their sessions. The
// loops accept connections only after the method run is called.
func (s *Server) open() (*listener, error) {
	cfg := &s.cfg
	proxies, err := limit.ParseProxies(cfg.TrustProxies)
	if err != nil {
		return nil, err
	}
	caps := limit.NewCaps(limit.CapsConfig{
		Total: maxConnections(cfg.MaxConnections, cfg.Descriptors, cfg.Log), PerAddress: cfg.MaxConnectionsPerAddress, PerSecond: int(cfg.ConnectRate), Proxies: proxies,
	})
	lc, err := cfg.loops(s.memory, session.NewGate(caps))
	if err != nil {
		return nil, err
	}
	f := &listener{ask: s.ask, broken: make(chan struct{})}
	if f.loops, f.addr, err = loop.Listen(lc); err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.handoff = newHandoff(f.addr)
	cfg.Auth.HTTPS, cfg.Auth.Loopback = cfg.CertFile != "", daemon.IsLoopback(f.addr.String())
	cfg.Auth.Log, cfg.Auth.Asked = cfg.Log, cfg.Ask.Asks(backend.Connect)
	cfg.Auth.Revoked = &s.revoked
	cfg.Auth.Tickets = cfg.APITokenFile != ""
	if f.auth, err = auth.New(&s.keys, cfg.Auth); err != nil {
		f.close()
		return nil, err
	}
	handler, err := routes(cfg, s.bridge, s.memory, s.rates, f.auth, s.ask, f.addr, proxies)
	if err != nil {
		f.close()
		return nil, err
	}
	f.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       cfg.HTTPIdleTime,
		MaxHeaderBytes:    max(1, cfg.MaxRequestHead-4096), // net/http reads up to 4,096 bytes more than this
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	for i, l := range f.loops {
		sc := cfg.sessions(fmt.Sprintf("%s-%d", cfg.ID, i), s.memory)
		sc.Rates = s.rates
		sc.HTTP = func(c *session.CountedConn) { f.handoff.give(c) }
		f.sessions = append(f.sessions, session.New(sc, l, s.bridge, f.auth, s.ask, caps))
	}
	s.stats.watch(f.sessions, caps)
	return f, nil
}

// run starts the loops and the HTTP server. If a loop fails, it calls failed.
func (f *listener) run(failed context.CancelCauseFunc) {
	for i, l := range f.loops {
		f.running.Go(func() {
			if err := l.Run(f.ctx, f.sessions[i]); err != nil {
				f.once.Do(func() { close(f.broken) })
				failed(fmt.Errorf("run event loop: %w", err))
			}
		})
	}
	f.running.Go(func() { f.auth.Run(f.ctx) })
	f.running.Go(func() { f.ask.Run(f.ctx) })
	f.running.Go(func() { f.http.Serve(f.handoff) })
}

// asker sends questions to the backend over NATS. It implements [backend.Transport].
type asker struct{ bridge *bridge.Bridge }

// Ask implements [backend.Transport].
func (a asker) Ask(ctx context.Context, kind backend.Kind, question []byte) ([]byte, error) {
	return a.bridge.Ask(ctx, string(kind), question)
}

// close closes the loops of a listener whose method run was never called.
func (f *listener) close() {
	f.stop()
	for _, l := range f.loops {
		l.Run(f.ctx, nil)
	}
}

// wait stops the loops and the HTTP server, and waits until they have ended.
func (f *listener) wait() {
	f.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := f.http.Shutdown(ctx); err != nil {
		f.http.Close()
	}
	f.running.Wait()
}
