package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"roomcast/gateway/server"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/roomsvc/service"
)

// This file is the standalone form, all of Roomcast in one process, and the only one
// that knows the NATS server and the room service.

// standalone is what runs inside a gateway that was given no NATS.
type standalone struct {
	DataDir string // where the log rests
	Sync    string // always, or how often the log is forced to disk
	Monitor string // host:port of /varz, /connz, /jsz ..., or off
	Listen  string // host:port for other NATS clients, or off
	Service service.Config
}

// standaloneDrain is how long a stop spreads the goodbyes unless --drain-time says
// otherwise: there is no other gateway to be spared, and the sooner this one is back the
// better.
const standaloneDrain = time.Second

func defaultStandalone() standalone {
	return standalone{
		DataDir: "./roomcast-data", Sync: "always", Monitor: "127.0.0.1:8222", Listen: "off",
		Service: service.DefaultConfig(),
	}
}

func (e *standalone) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&e.DataDir, "data-dir", e.DataDir, "keep the log in this `directory`; one gateway a directory")
	flags.StringVar(&e.Sync, "sync", e.Sync, "force messages to disk `always` before they are acknowledged, or every so often, such as 1s: faster, and a power cut can take the last ones")
	flags.StringVar(&e.Monitor, "nats-monitor", e.Monitor, "serve NATS monitoring on this `address`, or off")
	flags.StringVar(&e.Listen, "nats-listen", e.Listen, "let NATS clients speak and listen in rooms on this `address`, such as 127.0.0.1:4222, or off; there is no password")
	e.Service.Bind(flags)
}

// Check says which setting is wrong, by the name of its flag.
func (e *standalone) Check() error {
	if _, err := e.interval(); err != nil {
		return err
	}
	if e.Service.Replicas != 1 {
		return errors.New("--replicas is 1 without --nats: there is one NATS server, the one inside")
	}
	e.Service.Sync = e.Sync
	e.Service.CloseWords = slices.DeleteFunc(e.Service.CloseWords, func(w string) bool { return w == "" })
	return e.Service.Check()
}

// interval returns how often the log is forced to disk; 0 = before each acknowledgement.
func (e *standalone) interval() (time.Duration, error) {
	if e.Sync == "always" {
		return 0, nil
	}
	every, err := time.ParseDuration(e.Sync)
	if err != nil || every <= 0 {
		return 0, fmt.Errorf("--sync: %q is neither always nor a duration such as 1s", e.Sync)
	}
	return every, nil
}

// durable says what an acknowledged message survives.
func (e *standalone) durable() string {
	if e.Sync == "always" {
		return "a message is on the disk before it is acknowledged"
	}
	return "acknowledged messages survive a crash; a power cut can take those of the last " + e.Sync
}

// tryOut says whether the addresses and the directory can be had.
func (e *standalone) tryOut(w io.Writer) error {
	_, fault := e.options("")
	held, err := lockDataDir(e.DataDir)
	if err = errors.Join(fault, err); err != nil {
		held.Close() // nil if it could not be had
		return err
	}
	fmt.Fprintf(w, "the log is in %s: %s\n", e.DataDir, e.durable())
	return held.Close()
}

// runStandalone runs everything here. The order of stopping is that of a message: the
// gateway ends first and finds the room service to finish its messages, the room
// service finds NATS to finish its own.
func (s *settings) runStandalone(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, started func(string, ...string)) error {
	e := &s.standalone
	inside, err := e.start(log)
	if err != nil {
		return err
	}
	defer inside.stop()

	e.Service.Dial, e.Service.Keys, e.Service.Log, e.Service.Metrics = inside.dial, s.server.Keys, log, reg
	e.Service.Instance, e.Service.Version = s.server.ID, daemon.SemVer()
	e.Service.MaxMessage = s.server.MaxMessage // what is said is logged by the gateway
	svc, err := service.New(e.Service)
	if err != nil {
		return err
	}
	s.server.Dial = inside.dial
	srv, err := server.New(s.server)
	if err != nil {
		return err
	}
	ops, err := s.ops.Serve(log, reg,
		daemon.Probe{Name: "gateway", Ready: srv.Ready}, daemon.Probe{Name: "roomsvc", Ready: svc.Ready})
	if err != nil {
		return err
	}
	defer ops.Close()

	svcCtx, stopService := context.WithCancel(context.WithoutCancel(ctx))
	defer stopService()
	srvCtx, stopServer := context.WithCancel(ctx)
	defer stopServer()
	ended := make(chan error, 1)
	go func() {
		ended <- svc.Run(svcCtx)
		stopServer() // a gateway whose room service has failed is of no use
	}()
	// The room service first, or the gateway would have to wait for what it makes.
	for svc.Ready() != nil && srvCtx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	err = srv.Run(srvCtx, func(address string) {
		more := []string{
			"log", e.DataDir + ": " + e.durable(),
			"inside", "NATS " + natsserver.VERSION + " and the room service",
		}
		if e.Listen != "off" {
			more = append(more, "NATS", inside.server.ClientURL())
		}
		if e.Monitor != "off" {
			more = append(more, "monitoring", "http://"+e.Monitor)
		}
		started(address, more...)
	})
	stopService()
	if failed := <-ended; failed != nil {
		return failed // and the gateway was only told to stop
	}
	return err
}

// guestPermissions are those of whoever else connects: two users share the embedded
// server's account, ourselves, who may do everything and whose key nobody else has, and
// guests, who may do what a member may.
func guestPermissions() *natsserver.Permissions {
	return &natsserver.Permissions{
		Publish: &natsserver.SubjectPermission{Allow: []string{
			"room.*", "room.in.*.*", "$SRV.>",
			"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.ROOMS",
			"$JS.API.DIRECT.GET.ROOMS", "$JS.API.DIRECT.GET.ROOMS.>", "$JS.API.STREAM.MSG.GET.ROOMS",
		}},
		Subscribe: &natsserver.SubjectPermission{Allow: []string{"room.out.>", "room.eph.>", "_INBOX.>"}},
	}
}

// options returns the server's options and says which flag is wrong. Own is our public
// key.
func (e *standalone) options(own string) (*natsserver.Options, error) {
	_, guest, err := newUser()
	if err != nil {
		return nil, err
	}
	opts := &natsserver.Options{
		ServerName: "roomcast",
		JetStream:  true,
		StoreDir:   e.DataDir,
		DontListen: true,
		NoSigs:     true,
		Nkeys: []*natsserver.NkeyUser{
			{Nkey: own},
			{Nkey: guest, Permissions: guestPermissions()},
		},
		NoAuthUser: guest,
	}
	every, err := e.interval()
	if err != nil {
		return nil, err
	}
	opts.SyncAlways, opts.SyncInterval = every == 0, every
	if e.Listen != "off" {
		opts.DontListen = false
		if opts.Host, opts.Port, err = free("--nats-listen", e.Listen); err != nil {
			return nil, err
		}
	}
	if e.Monitor != "off" {
		if opts.HTTPHost, opts.HTTPPort, err = free("--nats-monitor", e.Monitor); err != nil {
			return nil, err
		}
	}
	return opts, nil
}

// free splits an address and makes sure that it can be listened on, since the NATS
// server says so only in its log. Port 0 becomes -1, its word for any free one.
func free(flag, address string) (host string, port int, err error) {
	if err := tryListen(flag, address, ", or off"); err != nil {
		return "", 0, err
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", flag, err)
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, fmt.Errorf("%s: the port of %q must be a number", flag, address)
	}
	if port == 0 {
		port = -1
	}
	return host, port, nil
}

// newUser makes a key that only this process knows.
func newUser() (key nkeys.KeyPair, public string, err error) {
	if key, err = nkeys.CreateUser(); err == nil {
		public, err = key.PublicKey()
	}
	if err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	return key, public, nil
}

// embedded is a NATS server that runs in this process.
type embedded struct {
	server *natsserver.Server
	key    nkeys.KeyPair // ours
	public string        // half of key
	data   *os.File      // keeps the data directory for us
	log    *slog.Logger
}

func (e *standalone) start(log *slog.Logger) (*embedded, error) {
	key, public, err := newUser()
	if err != nil {
		return nil, err
	}
	opts, err := e.options(public)
	if err != nil {
		return nil, err
	}
	data, err := lockDataDir(e.DataDir)
	if err != nil {
		return nil, err
	}
	ns, err := natsserver.NewServer(opts)
	if err != nil {
		data.Close()
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	n := &embedded{server: ns, key: key, public: public, data: data, log: log}
	said := &serverLog{log: log.With("part", "nats")}
	ns.SetLoggerV2(said, false, false, false)
	ns.Start()
	if why := said.fatal(); why != "" || !ns.ReadyForConnections(10*time.Second) {
		n.stop()
		return nil, fmt.Errorf("start NATS with its data in %s: %s", e.DataDir, why)
	}
	account, err := ns.LookupAccount(natsserver.DEFAULT_GLOBAL_ACCOUNT)
	if err == nil {
		// What nats.conf says in one line for a NATS of its own.
		err = account.AddMapping("room.*", proto.MapTo)
	}
	if err != nil {
		n.stop()
		return nil, fmt.Errorf("start NATS: map rooms to partitions: %w", err)
	}
	return n, nil
}

// dial is a daemon.Dialer that needs no socket.
func (n *embedded) dial(name string, more ...nats.Option) (*nats.Conn, error) {
	opts := append(daemon.Options(n.log, name), nats.InProcessServer(n.server), nats.Nkey(n.public, n.key.Sign))
	return nats.Connect("", append(opts, more...)...)
}

func (n *embedded) stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.data.Close()
}

// serverLog hands the NATS server's log lines to slog. What it calls notices is
// detail here.
type serverLog struct {
	log *slog.Logger

	mu   sync.Mutex
	last string // of Fatalf; guarded by mu
}

func (l *serverLog) say(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats server says", "text", fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  {}
func (l *serverLog) Tracef(format string, v ...any)  {}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = fmt.Sprintf(format, v...)
}

func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
