package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"roomcast/gateway/follow"
	"roomcast/gateway/server"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/roomsvc/service"
)

// This file runs the standalone form, in which one process contains all of Roomcast. No other
// file of the gateway uses the room service. embedded.go runs the NATS server in the process.

// standalone contains the settings of the parts that run inside a gateway without --nats.
type standalone struct {
	DataDir string // directory of the log
	Sync    string // always, or the interval at which the log is written to disk
	Monitor string // host:port of /varz, /connz, /jsz ..., or off
	Listen  string // host:port for other NATS clients, or off
	Carrier string // how the gateway and the room service are connected: direct or nats
	Service service.Config

	// A NATS client with the password or one of the keys is trusted like a backend. If there is
	// neither a password nor a key, all NATS clients are guests.
	PasswordFile string   // file with the password
	NKeys        []string // public keys
}

// standaloneDrain is the default of --drain-time in the standalone form. There is no other
// gateway for the clients, so a quick restart is better for them than a slow one.
const standaloneDrain = time.Second

func defaultStandalone() standalone {
	return standalone{
		DataDir: "./roomcast-data", Sync: "always", Monitor: "127.0.0.1:8222", Carrier: "direct", Listen: "off",
		Service: service.DefaultConfig(),
	}
}

func (e *standalone) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&e.DataDir, "data-dir", e.DataDir, "keep the log in this `directory`; only one gateway may use it")
	flags.StringVar(&e.Sync, "sync", e.Sync, "force the log to disk before each message is acknowledged (always), or at this `interval`, such as 1s: faster, but a power failure loses the messages of one interval")
	flags.StringVar(&e.Monitor, "nats-monitor", e.Monitor, "serve NATS monitoring on this `address`; off disables it")
	flags.StringVar(&e.Listen, "nats-listen", e.Listen, "accept NATS clients on this `address`, such as 127.0.0.1:4222; they may send to rooms and follow them. Without a password or an nkey every client is a guest, and at most 1000 are admitted")
	flags.StringVar(&e.PasswordFile, "nats-listen-password-file", e.PasswordFile, "admit only NATS clients with the password in this `file`; like a backend, they may name any sender and use every room")
	flags.StringArrayVar(&e.NKeys, "nats-listen-nkey", e.NKeys, "admit the NATS client with this public `nkey`, with the same rights as the password gives; repeatable")
	flags.StringVar(&e.Carrier, "carrier", e.Carrier, "carry messages between gateway and room service by `direct` calls, or over nats, where a NATS client can watch them on room.<group>; other NATS clients use room.<group> in both cases")
	e.Service.Bind(flags)
}

// Check returns an error if a setting is wrong. The error names the flag.
func (e *standalone) Check() error {
	if _, err := e.interval(); err != nil {
		return err
	}
	if _, err := e.password(); err != nil {
		return err
	}
	if e.Carrier != "direct" && e.Carrier != "nats" {
		return fmt.Errorf("--carrier: %q is neither direct nor nats", e.Carrier)
	}
	for _, key := range e.NKeys {
		if !nkeys.IsValidPublicUserKey(key) {
			return fmt.Errorf("--nats-listen-nkey: %q is not the public key of a user; those begin with U", key)
		}
	}
	if e.Listen == "off" && e.guarded() {
		return errors.New("--nats-listen-password-file and --nats-listen-nkey need --nats-listen")
	}
	if e.Service.Replicas != 1 {
		return errors.New("--replicas must be 1 without --nats: the gateway contains only one NATS server")
	}
	e.Service.Sync = e.Sync
	return e.Service.Check()
}

// interval returns the time between two syncs of the log to disk. 0 means that the log is synced
// before each acknowledgement.
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

// durable describes which failures an acknowledged message survives.
func (e *standalone) durable() string {
	if e.Sync == "always" {
		return "a message is on the disk before it is acknowledged"
	}
	return "acknowledged messages survive a crash; a power failure loses those of the last " + e.Sync
}

// tryOut checks that this process can use the addresses and the data directory.
func (e *standalone) tryOut(w io.Writer) error {
	_, problem := e.options()
	lock, err := lockDataDir(e.DataDir)
	if err = errors.Join(problem, err); err != nil {
		lock.Close() // this does nothing if lock is nil
		return err
	}
	fmt.Fprintf(w, "the log is in %s: %s\n", e.DataDir, e.durable())
	return lock.Close()
}

// rotateKeys makes a new signing key in the data directory. No gateway may use the directory. If
// there is no log in the directory, rotateKeys returns an error and creates nothing.
func (e *standalone) rotateKeys(ctx context.Context, log *slog.Logger, now bool) error {
	switch _, err := os.Stat(filepath.Join(e.DataDir, "jetstream")); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--data-dir: there is no log in %s", e.DataDir)
	case err != nil:
		return fmt.Errorf("--data-dir: %w", err)
	}
	form := *e
	form.Listen, form.Monitor = "off", "off"
	inside, err := form.start(log)
	if err != nil {
		return err
	}
	defer inside.stop()
	return service.RotateKeys(ctx, service.Config{Log: log, Dial: inside.dialer(userService)}, now)
}

// runStandalone runs all parts in this process. The gateway stops first, while the room service
// still answers it. Then the room service stops, while NATS still stores its records.
func (s *settings) runStandalone(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, started func(string, ...string)) error {
	e := &s.standalone
	e.Service.GuestRights = s.server.GuestRights()
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

	if !e.Service.Change("events-bytes") {
		// The log takes two thirds of the space that NATS may use. The other third is for all
		// other streams, so the stream of events gets at most one eighth.
		e.Service.Events.Bytes = min(e.Service.Events.Bytes, inside.server.Load().JetStreamConfig().MaxStore/8)
	}

	e.Service.Dial, e.Service.Keys, e.Service.Log, e.Service.Metrics = inside.dialer(userService), s.server.Keys, log, reg
	e.Service.Instance, e.Service.Version = s.server.ID, daemon.Version
	e.Service.WitnessFile = filepath.Join(e.DataDir, "witness.json")
	e.Service.MaxMessage = s.server.MaxMessage // the gateway's limit holds for NATS clients too
	svc, err := service.New(e.Service)
	if err != nil {
		return err
	}
	s.server.Dial = inside.dialer(userGateway)
	if e.Carrier == "direct" {
		s.server.Carrier = &directCarrier{svc: svc}
	}
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
		stopServer() // without the room service the gateway cannot work
	}()
	go func() {
		watched <- newStore(e.DataDir, inside.healthy, inside.restart, log).watch(srvCtx)
		stopServer() // without the log the gateway cannot work
	}()
	// The gateway needs the streams and keys that the room service makes.
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
	// If another part has failed, it has stopped the gateway, so err is not the cause.
	return cmp.Or(unwritable, <-ended, err)
}

// directCarrier connects the gateway and the room service in this process by direct calls. It
// implements [bridge.Carrier]. No other room service writes to the log, so in this way the
// gateway receives all records.
type directCarrier struct {
	svc    *service.Service
	answer func(token string, r proto.Reply)
}

// Records implements [bridge.Carrier].
func (c *directCarrier) Records(feeds *follow.Feeds) { c.svc.Attach(feeds) }

// Answers implements [bridge.Carrier].
func (c *directCarrier) Answers(answer func(string, proto.Reply)) error {
	c.answer = answer
	return nil
}

// Send implements [bridge.Carrier].
func (c *directCarrier) Send(token string, room proto.Room, r *proto.Request) error {
	c.svc.Offer(room, r, func(reply proto.Reply) { c.answer(token, reply) })
	return nil
}
