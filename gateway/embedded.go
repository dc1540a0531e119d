package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"roomcast/gateway/server"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/grant"
)

// This file runs the NATS server inside a standalone gateway.

//go:embed accounts.conf
var accountsConf string

// accounts returns the configuration of the accounts of the embedded server.
func accounts() string {
	return strings.ReplaceAll(accountsConf, "room.in.N", proto.MapTo)
}

// The users with which this process connects to the embedded server. Each user belongs to a
// different NATS account.
const (
	userService = "roomsvc"
	userGateway = "gateway"
)

var ownAccounts = map[string]string{userService: "ROOMS", userGateway: "EDGE"}

// embedded is a NATS server that runs in this process. Its methods are safe for concurrent use,
// except restart.
type embedded struct {
	form   standalone // the settings, with the addresses that the server really uses
	door   *door
	data   *os.File // the file in the data directory that lockDataDir has locked
	log    *slog.Logger
	server atomic.Pointer[natsserver.Server] // replaced by restart
}

// options returns the options of the NATS server. Its errors name the flag.
func (e *standalone) options() (*natsserver.Options, error) {
	opts := &natsserver.Options{}
	if err := opts.ProcessConfigString(accounts()); err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	opts.ServerName = "roomcast"
	opts.JetStream = true
	opts.StoreDir = e.DataDir
	opts.DontListen = true
	opts.NoSigs = true
	opts.AlwaysEnableNonce = true // needed for nkeys
	opts.MaxConn = natsConnections()
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

// free splits an address into host and port, and checks that this process can listen on the
// address. Without this check, only a line in the log of the NATS server would report a busy
// port. For port 0, free returns -1, with which NATS chooses a free port.
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

// minPassword is the length of the shortest password in bytes.
const minPassword = 16

// password reads the file of --nats-listen-password-file. It returns nil if the flag is not set.
func (e *standalone) password() ([]byte, error) {
	if e.PasswordFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(e.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("--nats-listen-password-file: %w", err)
	}
	if b = bytes.TrimSpace(b); len(b) < minPassword {
		return nil, fmt.Errorf("--nats-listen-password-file: the password has %d bytes; it needs at least %d", len(b), minPassword)
	}
	return b, nil
}

// guarded reports whether NATS clients must authenticate.
func (e *standalone) guarded() bool { return e.PasswordFile != "" || len(e.NKeys) > 0 }

func (e *standalone) start(log *slog.Logger) (*embedded, error) {
	opts, err := e.options()
	if err != nil {
		return nil, err
	}
	guests, err := grant.FromFlag(e.Service.GuestRights)
	if err != nil {
		return nil, fmt.Errorf("--guest-rights: %w", err)
	}
	d := &door{own: make(map[string]string), nkeys: e.NKeys, guarded: e.guarded(), follow: guests.Permits(proto.RightRead)}
	if d.password, err = e.password(); err != nil {
		return nil, err
	}
	for user := range ownAccounts {
		d.own[user] = rand.Text()
	}
	data, err := lockDataDir(e.DataDir)
	if err != nil {
		return nil, err
	}
	n := &embedded{form: *e, door: d, data: data, log: log}
	if err := n.run(opts); err != nil {
		data.Close()
		return nil, err
	}
	if e.Listen != "off" && !d.guarded && !daemon.IsLoopback(e.Listen) {
		log.Warn("--nats-listen admits every NATS client as a guest; set --nats-listen-password-file or --nats-listen-nkey", "address", e.Listen)
	}
	return n, nil
}

// run starts a server.
//
// By default, NATS may store three quarters of the free space of the disk. The space of an
// existing log is not free. So the log's limit may be greater than the limit of NATS. Then NATS
// would refuse every change of a stream's settings. In this case, run starts the server again and
// lets it store more.
func (n *embedded) run(opts *natsserver.Options) error {
	opts.CustomClientAuthentication = n.door
	ns, err := natsserver.NewServer(opts)
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	n.door.serve(ns)
	said := &serverLog{log: n.log.With("part", "nats")}
	ns.SetLoggerV2(said, false, false, false)
	ns.Start()
	if why := said.fatal(); why != "" || !ns.ReadyForConnections(time.Minute) {
		halt(ns)
		return fmt.Errorf("start NATS with its data in %s: %s", n.form.DataDir, why)
	}
	if _, reserved, err := ns.JetStreamReservedResources(); err == nil && opts.JetStreamMaxStore <= 0 && reserved > ns.JetStreamConfig().MaxStore/8*7 {
		halt(ns)
		opts.JetStreamMaxStore = reserved / 2 * 3 // the log then takes two thirds of this, as in historyBytes
		return n.run(opts)
	}
	if n.form.Listen != "off" {
		n.form.Listen = ns.Addr().String() // use the same port after a restart
	}
	n.server.Store(ns)
	return nil
}

func halt(ns *natsserver.Server) {
	ns.Shutdown()
	ns.WaitForShutdown()
}

// restart stops the server and starts another one with the same data. Clients reconnect. If
// restart returns an error, no server is running. Only one goroutine may call it.
func (n *embedded) restart() error {
	halt(n.server.Load())
	opts, err := n.form.options()
	if err != nil {
		return err
	}
	return n.run(opts)
}

// errSlow is the error of a server that may only be slow. It may be too busy to answer, or still
// be making a stream: NATS makes the directory of a stream before the stream.
var errSlow = errors.New("NATS is slow")

// healthy returns an error if a stream cannot be written. The error is errSlow if the cause may be
// a busy machine.
func (n *embedded) healthy() error {
	var slow error
	for _, e := range n.server.Load().Healthz(&natsserver.HealthzOptions{Details: true}).Errors {
		busy := e.Type == natsserver.HealthzErrorConn
		making := e.Type == natsserver.HealthzErrorStream && !strings.Contains(e.Error, "write error")
		if !busy && !making {
			return errors.New(e.Error)
		}
		slow = fmt.Errorf("%w: %s", errSlow, e.Error)
	}
	return slow
}

// InProcessConn implements [nats.InProcessConnProvider]. It connects to the server that runs
// now.
func (n *embedded) InProcessConn() (net.Conn, error) { return n.server.Load().InProcessConn() }

// dialer returns a [daemon.Dialer] that connects a user of this process without sockets.
func (n *embedded) dialer(user string) daemon.Dialer {
	return func(name string, more ...nats.Option) (*nats.Conn, error) {
		opts := append(daemon.Options(n.log, name), nats.InProcessServer(n),
			nats.UserInfo(user, n.door.own[user]), nats.CustomInboxPrefix("_INBOX_"+user))
		return nats.Connect("", append(opts, more...)...)
	}
}

func (n *embedded) stop() {
	halt(n.server.Load())
	n.data.Close()
}

// maxGuests is how many guests may be connected at a time. The server refuses further guests.
const maxGuests = 1000

// natsConnections returns the limit for connections to NATS. The limit leaves enough file
// descriptors for the log.
func natsConnections() int {
	const own, backends = 20, 100
	return own + min(maxGuests+backends, server.FileLimit()/4)
}

// door authenticates the clients of the embedded server and assigns them to accounts. It
// implements [natsserver.Authentication] and is safe for concurrent use.
//
// Each guest gets an account of its own. If guests shared an account, a guest could subscribe to
// the reply subjects of other guests and send them forged answers.
type door struct {
	own      map[string]string // passwords of the users of this process, by user
	password []byte            // password of backends; nil = none
	nkeys    []string          // public keys of backends
	guarded  bool              // no client is admitted as a guest
	follow   bool              // guests may follow all rooms, because they have the right to read everywhere

	mu     sync.Mutex            // guards the fields below
	server *natsserver.Server    // set before the server starts
	guests []*natsserver.Account // an account is reused when it has no connection; at most maxGuests
}

// serve gives the door the server that it works for. An account of a guest belongs to one server,
// so the door forgets the accounts of the previous server.
func (d *door) serve(ns *natsserver.Server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.server, d.guests = ns, nil
}

// Check authenticates a client. It returns false to refuse the client.
func (d *door) Check(c natsserver.ClientAuthentication) bool {
	opts := c.GetOpts()
	if right, ok := d.own[opts.Username]; ok && same(opts.Password, []byte(right)) {
		return d.admit(c, opts.Username, ownAccounts[opts.Username])
	}
	switch {
	case !d.guarded:
		return d.admitGuest(c)
	case d.password != nil && (same(opts.Password, d.password) || same(opts.Token, d.password)):
	case slices.Contains(d.nkeys, opts.Nkey) && signed(opts.Nkey, opts.Sig, c.GetNonce()):
	default:
		return false
	}
	return d.admit(c, opts.Username, "APPS")
}

func same(a string, b []byte) bool { return subtle.ConstantTimeCompare([]byte(a), b) == 1 }

// signed reports whether sig is a signature of the nonce with the given key.
func signed(key, sig string, nonce []byte) bool {
	public, err := nkeys.FromPublicKey(key)
	if err != nil {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	return err == nil && public.Verify(nonce, raw) == nil
}

func (d *door) admit(c natsserver.ClientAuthentication, user, account string) bool {
	d.mu.Lock()
	a, err := d.server.LookupAccount(account)
	d.mu.Unlock()
	if err != nil {
		return false
	}
	u := &natsserver.User{Username: user, Account: a}
	if account == "APPS" { // only gateways may ask backends
		u.Permissions = &natsserver.Permissions{Publish: &natsserver.SubjectPermission{Deny: []string{proto.PrefixAsk + ">"}}}
	}
	c.RegisterUser(u)
	return true
}

func (d *door) admitGuest(c natsserver.ClientAuthentication) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.guests, func(a *natsserver.Account) bool { return a.NumLocalConnections() == 0 })
	if i < 0 {
		a, err := d.newGuests()
		if err != nil {
			return false
		}
		i = len(d.guests)
		d.guests = append(d.guests, a)
	}
	hears := []string{"_INBOX.>"}
	if d.follow {
		hears = append(hears, "room.out.>")
	}
	c.RegisterUser(&natsserver.User{Username: "guest", Account: d.guests[i], Permissions: &natsserver.Permissions{
		Publish:   &natsserver.SubjectPermission{Allow: []string{"room.*"}},
		Subscribe: &natsserver.SubjectPermission{Allow: hears},
	}})
	return true
}

// newGuests returns a new account for a guest, with the imports of the account GUESTS.
func (d *door) newGuests() (*natsserver.Account, error) {
	if len(d.guests) == 0 {
		return d.server.LookupAccount("GUESTS")
	}
	if len(d.guests) >= maxGuests {
		return nil, errors.New("too many guests")
	}
	rooms, err := d.server.LookupAccount("ROOMS")
	if err != nil {
		return nil, err
	}
	a, err := d.server.RegisterAccount("GUESTS-" + strconv.Itoa(len(d.guests)+1))
	if err != nil {
		return nil, err
	}
	just := []*natsserver.Account{a}
	return a, errors.Join(
		rooms.AddServiceExport(proto.SubjectAnyRoom, just), a.AddServiceImport(rooms, proto.SubjectAnyRoom, proto.SubjectAnyRoom),
		rooms.AddStreamExport("room.out.>", just), a.AddStreamImport(rooms, "room.out.>", ""))
}

// serverLog writes the lines that the NATS server logs to slog. Notices of NATS have level
// debug. It is safe for concurrent use.
type serverLog struct {
	log *slog.Logger

	mu   sync.Mutex
	last string // the last line of Fatalf; guarded by mu
}

func (l *serverLog) say(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats server", "text", fmt.Sprintf(format, v...))
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
