package session_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"roomcast/gateway/auth"
	asking "roomcast/gateway/backend"
	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/publish"
	"roomcast/gateway/session"
	"roomcast/proto"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// backend is a NATS server with a room service. All tests share it. Each test has its own
// gateways and rooms.
var backend struct {
	ns  *natstest.Server
	svc *service.Service
}

func dialNATS(name string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(backend.ns.ClientURL(), append(opts, nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
}

func TestMain(m *testing.M) {
	code := runBackend(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runBackend(m *testing.M) int {
	dir, err := os.MkdirTemp("", "session")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	backend.ns, err = natstest.New(&natsserver.Options{JetStream: true, StoreDir: dir})
	if err != nil {
		panic(err)
	}
	defer backend.ns.Stop()
	cfg := service.DefaultConfig()
	cfg.Dial, cfg.Log, cfg.TimeZone = dialNATS, slog.New(slog.DiscardHandler), "UTC"
	if backend.svc, err = service.New(cfg); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- backend.svc.Run(ctx) }()
	defer func() { <-ended }()
	defer stop()
	for backend.svc.Ready() != nil {
		select {
		case err := <-ended:
			panic(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return m.Run()
}

// gateway contains all parts of a gateway that are between a socket and NATS.
type gateway struct {
	t        testing.TB
	addr     string
	bridge   *bridge.Bridge
	auth     *auth.Auth
	keys     *auth.SigningKeys
	loops    []*loop.Loop
	sessions []*session.Sessions
	http     chan net.Conn // connections that did not begin with a WebSocket handshake
}

// settings contains the settings of a gateway, which a test may change before the start.
type settings struct {
	session session.Config
	loop    loop.Config
	caps    limit.CapsConfig
	auth    auth.Config
	ask     asking.Config
	bridge  bridge.Config
	dial    func(string, ...nats.Option) (*nats.Conn, error)
}

var gateways struct {
	sync.Mutex
	n int
}

func start(t testing.TB, change ...func(*settings)) *gateway {
	t.Helper()
	gateways.Lock()
	gateways.n++
	name := fmt.Sprintf("g%d", gateways.n)
	gateways.Unlock()

	log := slog.New(slog.DiscardHandler)
	s := settings{session: session.DefaultConfig(), loop: loop.DefaultConfig(), auth: auth.DefaultConfig(), ask: asking.DefaultConfig(), bridge: bridge.DefaultConfig(), dial: dialNATS}
	s.loop.Address, s.loop.Loops, s.loop.Log = "127.0.0.1:0", 2, log
	s.session.Log, s.session.Hub.Log, s.bridge.Log = log, log, log
	for _, f := range change {
		f(&s)
	}
	g := &gateway{t: t, http: make(chan net.Conn, 16)}
	bc := s.bridge
	revoked := new(auth.Revocations)
	bc.Revoked, s.auth.Revoked = revoked, revoked
	g.keys = new(auth.SigningKeys)
	bc.Signing = g.keys
	bc.ID, bc.Dial, bc.Memory = name, s.dial, s.session.Hub.Memory
	var err error
	if g.bridge, err = bridge.New(bc); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.bridge.Run(ctx); err != nil {
			t.Errorf("bridge: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	eventually(t, "the bridge to be ready", func() bool { return g.bridge.Ready() == nil })

	s.auth.Asked, s.ask.Log = s.ask.Asks(asking.Connect), log
	a, err := auth.New(g.keys, s.auth)
	if err != nil {
		t.Fatal(err)
	}
	g.auth = a
	ask, err := asking.New(s.ask, asker{g.bridge})
	if err != nil {
		t.Fatal(err)
	}
	authCtx, stopAuth := context.WithCancel(context.Background())
	var checking sync.WaitGroup
	checking.Go(func() { a.Run(authCtx) })
	checking.Go(func() { ask.Run(authCtx) })
	t.Cleanup(func() { stopAuth(); checking.Wait() })
	caps := limit.NewCaps(s.caps)
	s.loop.Gate = session.NewGate(caps)
	var addr net.Addr
	if g.loops, addr, err = loop.Listen(s.loop); err != nil {
		t.Fatal(err)
	}
	g.addr = addr.String()
	loopCtx, stopLoops := context.WithCancel(ctx)
	var looping sync.WaitGroup
	for i, l := range g.loops {
		cfg := s.session
		cfg.Hub.Name = fmt.Sprintf("%s-%d", name, i)
		cfg.HTTP = func(c *session.CountedConn) { g.http <- c }
		ss := session.New(cfg, l, g.bridge, a, ask, caps)
		g.sessions = append(g.sessions, ss)
		looping.Go(func() {
			if err := l.Run(loopCtx, ss); err != nil {
				t.Errorf("loop: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		stopLoops()
		looping.Wait()
		for _, ss := range g.sessions {
			// If the backend has not answered about a join, the join remains when the loop ends.
			if left := ss.Leftovers(); left != nil && !s.ask.Asks(asking.Join) {
				t.Errorf("the sessions have left %s", left)
			}
		}
	})
	return g
}

// leftovers returns what the maps of the sessions contain.
func (g *gateway) leftovers() string {
	var list []string
	for i, l := range g.loops {
		found := make(chan []string, 1)
		l.Post(func() { found <- g.sessions[i].Leftovers() })
		list = append(list, <-found...)
	}
	return fmt.Sprint(list)
}

// asker sends questions to the application's backend over NATS.
type asker struct{ bridge *bridge.Bridge }

func (a asker) Ask(ctx context.Context, kind asking.Kind, question []byte) ([]byte, error) {
	return a.bridge.Ask(ctx, string(kind), question)
}

// act closes or reopens a room, without a session of a moderator.
func (g *gateway) act(room string, act proto.Act, why string) uint64 {
	g.t.Helper()
	done := make(chan proto.Reply, 1)
	g.bridge.Say(publish.Say{Rights: proto.AllRights, Room: proto.MustRoom(room), From: proto.Identity{ID: "api"}, Act: act,
		Why: why, Patience: 5 * time.Second}, func(r proto.Reply) { done <- r })
	r := <-done
	if r.Seq == 0 {
		g.t.Fatalf("%s %s: %v", act, room, r.Refusal)
	}
	return r.Seq
}

// sum adds up one counter of all loops.
func (g *gateway) sum(read func(*session.Sessions) uint64) (n uint64) {
	for _, ss := range g.sessions {
		n += read(ss)
	}
	return n
}

var eventually = natstest.Eventually
