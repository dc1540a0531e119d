// Command gateway serves the clients of Roomcast. It passes their messages to the room service, and
// sends them the events of their rooms. Without --nats, it runs all parts of Roomcast in one
// process; see standalone.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	_ "time/tzdata" // for --time-zone, on machines without a time zone database

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"roomcast/gateway/console"
	"roomcast/gateway/server"
	"roomcast/proto/daemon"
	"roomcast/proto/seal"
)

func main() { os.Exit(daemon.Main(command())) }

// settings contains the values of all flags. The command's goroutine owns it.
type settings struct {
	log         daemon.Log
	ops         daemon.Ops
	nats        daemon.NATS
	keyFiles    []string
	acceptPlain bool
	server      server.Config
	standalone  standalone

	ownFlags []string // names of the flags that exist only in the standalone form
}

func command() *cobra.Command {
	s := &settings{
		log:        daemon.DefaultLog(),
		ops:        daemon.Ops{Listen: "127.0.0.1:9090"},
		server:     server.DefaultConfig(),
		standalone: defaultStandalone(),
	}
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "WebSocket rooms on NATS",
		Long: `gateway serves WebSocket rooms. A client that connects to /room/<name>/ sends to that
room and receives the messages of the other clients.

Without --nats, gateway runs all of Roomcast in one process: a NATS server, the room
service, and the log on disk in --data-dir. It then listens on 127.0.0.1:8000, which
only this machine can reach. With --nats, gateway is one of several gateways that use
the same NATS servers and the same room service, roomsvc.

Every flag has an environment variable, whose name is in brackets. The flag overrides
the variable. For a flag that may be repeated, separate the values in the variable by
commas.`,
		Example: `  gateway
  gateway --listen :8000 --data-dir /var/lib/roomcast --close-word bye
  gateway --nats nats://n1,nats://n2,nats://n3 --creds gateway.creds --allow-origin https://chat.example.org
  GATEWAY_LISTEN=:9000 NATS_URL=nats://127.0.0.1 gateway`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), cmd)
		},
	}
	flags := pflag.NewFlagSet("gateway", pflag.ContinueOnError) // the flags of the commands gateway, check, rotate-keys and ready
	flags.SortFlags = false
	s.server.Listen = "" // the method listen chooses the default
	s.server.Bind(flags)
	flags.StringArrayVar(&s.keyFiles, "encryption-key-file", nil, "encrypt messages with the secret in this `file`; repeatable: the first secret encrypts, all decrypt")
	flags.BoolVar(&s.acceptPlain, "encryption-accept-plain", false, "with --encryption-key-file: also read records that are not encrypted, for a log that began without encryption")
	s.nats.Bind(flags)
	flags.StringVar(&s.server.ID, "id", s.server.ID, "use this unique `name` in NATS, 1 to 32 of A-Z a-z 0-9 _ and -; set it if each gateway has a NATS user of its own; random by default")
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.SortFlags = false
	s.standalone.Bind(own)
	own.VisitAll(func(f *pflag.Flag) {
		if flags.Lookup(f.Name) == nil {
			s.ownFlags = append(s.ownFlags, f.Name)
		}
	})
	flags.AddFlagSet(own)
	s.ops.Bind(flags)
	s.log.Bind(flags)
	check, rotate, ready := s.checkCommand(), s.rotateCommand(), daemon.ReadyCommand(&s.ops, s.askPage)
	for _, c := range []*cobra.Command{cmd, check, rotate, ready} {
		c.Flags().SortFlags = false
		c.Flags().AddFlagSet(flags)
	}
	cmd.AddCommand(check, rotate, ready, tokenCommand())
	cmd.AddCommand(console.Commands()...)
	return cmd
}

// form runs a gateway in one of its two forms. It calls started when the gateway listens. It
// returns when all goroutines of the gateway have ended.
type form func(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, started func(address string, more ...string)) error

func (s *settings) run(ctx context.Context, cmd *cobra.Command) error {
	log, err := s.log.New(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if err := s.configure(cmd.Flags()); err != nil {
		return err
	}
	// The gateway opens its listener last. Try to listen now, so that a busy port is reported at
	// once.
	if err := tryListen("--listen", s.server.Listen, ""); err != nil {
		return err
	}
	defer boundGarbage(s.server.Memory)()
	reg := daemon.NewRegistry()
	s.server.Log, s.server.Metrics = log, reg
	run := form(s.runStandalone)
	if s.nats.Given() {
		run = s.runThin
	}
	err = run(ctx, log, reg, func(address string, more ...string) {
		s.banner(cmd.OutOrStdout(), address, more...)
	})
	if err != nil {
		return err
	}
	log.Info("gateway stopped")
	return nil
}

var isID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// listen returns the address for clients. With --nats, the default is all interfaces. Without
// --nats, the default is a loopback address, for people who try Roomcast. Only this machine can
// reach such an address, so the HTTP API needs no token there.
func (s *settings) listen() string {
	switch {
	case s.server.Listen != "":
		return s.server.Listen
	case s.nats.Given():
		return ":8000"
	}
	return "127.0.0.1:8000"
}

// configure completes the settings and checks them. It does not connect to NATS.
func (s *settings) configure(flags *pflag.FlagSet) error {
	s.server.Listen = s.listen()
	problems := []error{s.server.Check()}
	if s.nats.Given() {
		for _, name := range s.ownFlags {
			if flags.Changed(name) {
				problems = append(problems, fmt.Errorf("--%s has no effect with --nats: it configures the NATS server or the room service inside a standalone gateway", name))
			}
		}
		problems = append(problems, s.nats.Check())
	} else {
		if s.nats != (daemon.NATS{}) {
			problems = append(problems, errors.New("NATS credentials need a server: set --nats, --context or NATS_URL"))
		}
		problems = append(problems, s.standalone.Check())
		if ask := &s.server.Ask; len(ask.Ask) > 0 && ask.URL == "" && !s.standalone.guarded() {
			problems = append(problems, errors.New("nobody could answer --ask: set --ask-url, or --nats-listen and --nats-listen-password-file for a backend that answers over NATS"))
		}
		// Let the room service log the messages, because it also receives the messages of NATS
		// clients.
		s.standalone.Service.LogMessages, s.server.LogMessages = s.server.LogMessages, false
		if !flags.Changed("drain-time") {
			s.server.DrainTime = standaloneDrain
		}
		s.standalone.Service.Change = flags.Changed // no other program can update the stream
	}
	var err error
	if s.server.Keys, err = seal.Load(s.keyFiles, s.acceptPlain); err != nil {
		problems = append(problems, fmt.Errorf("--encryption-key-file: %w", err))
	}
	if s.server.ID == "" {
		s.server.ID = daemon.NewID()
	}
	if !isID.MatchString(s.server.ID) {
		problems = append(problems, fmt.Errorf("--id: %q is not 1 to 32 of A-Z a-z 0-9 _ and -", s.server.ID))
	}
	return errors.Join(problems...)
}

// runThin runs a gateway that uses NATS servers and a room service outside of this process.
func (s *settings) runThin(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, started func(string, ...string)) error {
	s.server.Dial = s.nats.Dialer(log)
	srv, err := server.New(s.server)
	if err != nil {
		return err
	}
	ops, err := s.ops.Serve(log, reg, daemon.Probe{Name: "gateway", Ready: srv.Ready})
	if err != nil {
		return err
	}
	defer ops.Close()
	if err := daemon.Await(ctx, s.server.Dial, s.nats.String(), "gateway/"+s.server.ID, log); err != nil {
		return err
	}
	return srv.Run(ctx, func(address string) {
		started(address, "NATS", s.nats.String()+", which has the log and the room service")
	})
}

// banner prints the addresses on which the process listens. The parameter more contains pairs of
// a label and a text.
func (s *settings) banner(w io.Writer, address string, more ...string) {
	fmt.Fprintf(w, "\n  Roomcast %s\n\n", daemon.Version)
	line := func(label, text string) { fmt.Fprintf(w, "  %-12s%s\n", label, text) }
	line("open", s.server.URL(address))
	for i := 0; i+1 < len(more); i += 2 {
		line(more[i], more[i+1])
	}
	if s.ops.Listen != "off" {
		line("operators", server.Config{}.URL(s.ops.Listen)+"metrics, /readyz")
	}
	fmt.Fprintln(w)
}
