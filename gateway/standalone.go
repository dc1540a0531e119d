package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"roomcast/gateway/server"
	"roomcast/proto/daemon"
	"roomcast/roomsvc/service"
)

// This file is the standalone form, all of Roomcast in one process, and the only one
// that knows the room service. The NATS server inside is in embedded.go.

// standalone is what runs inside a gateway that was given no NATS.
type standalone struct {
	DataDir string // where the log rests
	Sync    string // always, or how often the log is forced to disk
	Monitor string // host:port of /varz, /connz, /jsz ..., or off
	Listen  string // host:port for other NATS clients, or off
	Service service.Config

	PasswordFile string   // what a client on Listen must show; it is then trusted as a backend
	NKeys        []string // public keys of such clients; without either, all are guests
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
	flags.StringVar(&e.Listen, "nats-listen", e.Listen, "let NATS clients speak and listen in rooms on this `address`, such as 127.0.0.1:4222, or off; without a password or an nkey anybody who reaches it is a guest, at most 1000 at a time")
	flags.StringVar(&e.PasswordFile, "nats-listen-password-file", e.PasswordFile, "admit NATS clients only with the password in this `file`; they are trusted with every sender and every room, as a backend is")
	flags.StringArrayVar(&e.NKeys, "nats-listen-nkey", e.NKeys, "admit the NATS client with this public `nkey`, trusted as with --nats-listen-password-file; repeatable")
	e.Service.Bind(flags)
}

// Check says which setting is wrong, by the name of its flag.
func (e *standalone) Check() error {
	if _, err := e.interval(); err != nil {
		return err
	}
	if _, err := e.password(); err != nil {
		return err
	}
	for _, key := range e.NKeys {
		if !nkeys.IsValidPublicUserKey(key) {
			return fmt.Errorf("--nats-listen-nkey: %q is not the public key of a user, which begins with U", key)
		}
	}
	if e.Listen == "off" && e.guarded() {
		return errors.New("--nats-listen-password-file and --nats-listen-nkey are of no use without --nats-listen")
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
	_, fault := e.options()
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
	if !e.Service.Change("history-bytes") {
		if e.Service.MaxBytes, err = inside.historyBytes(ctx); err != nil {
			return err
		}
	}

	e.Service.Dial, e.Service.Keys, e.Service.Log, e.Service.Metrics = inside.dialer(userService), s.server.Keys, log, reg
	e.Service.Instance, e.Service.Version = s.server.ID, daemon.Version
	e.Service.WitnessFile = filepath.Join(e.DataDir, "witness.json")
	e.Service.MaxMessage = s.server.MaxMessage // what is said is logged by the gateway
	svc, err := service.New(e.Service)
	if err != nil {
		return err
	}
	s.server.Dial = inside.dialer(userGateway)
	if e.Listen != "off" {
		s.server.Descriptors = natsConnections()
	}
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
	ended, watched := make(chan error, 1), make(chan error, 1)
	go func() {
		ended <- svc.Run(svcCtx)
		stopServer() // a gateway whose room service has failed is of no use
	}()
	go func() {
		watched <- newStore(e.DataDir, inside.healthy, inside.restart, log).watch(srvCtx)
		stopServer() // nor is one whose log cannot be written
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
			more = append(more, "NATS", inside.server.Load().ClientURL())
		}
		if e.Monitor != "off" {
			more = append(more, "monitoring", "http://"+e.Monitor)
		}
		started(address, more...)
	})
	stopServer()
	unwritable := <-watched
	stopService()
	// The gateway was only told to stop if one of the others has failed.
	return cmp.Or(unwritable, <-ended, err)
}
