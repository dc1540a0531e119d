// Command gateway is the edge of Roomcast: it turns WebSocket frames into NATS
// messages and back. Without flags it is all of Roomcast in one process; see
// standalone.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	_ "time/tzdata" // --time-zone works where no zones are installed

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"roomcast/gateway/server"
	"roomcast/proto/daemon"
	"roomcast/proto/seal"
)

func main() { os.Exit(daemon.Main(command())) }

// settings is everything the flags set.
type settings struct {
	log         daemon.Log
	ops         daemon.Ops
	nats        daemon.NATS
	keyFiles    []string
	acceptPlain bool
	server      server.Config
	standalone  standalone

	ownFlags []string // of the standalone form alone
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
		Long: `gateway serves WebSocket rooms: whoever connects to /room/<name>/ hears what the
others in that room say.

Without --nats it is all of Roomcast in one process, with a NATS server and the room
service inside and the log on disk in --data-dir. With --nats it is the thin edge of
a NATS that is there already, on which roomsvc runs too; start as many as you like.

Every flag has an environment name, shown in brackets; a flag wins over it. Of
repeatable flags, a variable holds the values separated by commas.`,
		Example: `  gateway
  gateway --listen 127.0.0.1:8000 --data-dir /var/lib/roomcast --close-word bye
  gateway --nats nats://n1,nats://n2,nats://n3 --creds gateway.creds --allow-origin https://chat.example.org
  GATEWAY_LISTEN=:9000 NATS_URL=nats://127.0.0.1 gateway`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), cmd)
		},
	}
	flags := cmd.PersistentFlags()
	flags.SortFlags = false
	s.server.Bind(flags)
	flags.StringArrayVar(&s.keyFiles, "encryption-key-file", nil, "encrypt messages with the secret in this `file`; repeatable: the first encrypts, all decrypt")
	flags.BoolVar(&s.acceptPlain, "encryption-accept-plain", false, "with a key: read records that are not encrypted too, while a log is being changed to encryption")
	s.nats.Bind(flags)
	flags.StringVar(&s.server.ID, "id", s.server.ID, "be known to NATS by this `name`, which no other gateway has: 1 to 32 of A-Z a-z 0-9 _ and -; needed only where each gateway has a NATS user of its own; random by default")
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.standalone.Bind(own)
	own.VisitAll(func(f *pflag.Flag) {
		if flags.Lookup(f.Name) == nil {
			s.ownFlags = append(s.ownFlags, f.Name)
		}
	})
	flags.AddFlagSet(own)
	s.ops.Bind(flags)
	s.log.Bind(flags)
	cmd.AddCommand(s.checkCommand(), daemon.ReadyCommand(&s.ops, s.askPage))
	return cmd
}

// form is one of the two ways a gateway runs. It calls started once it listens, and
// returns when all it started has ended.
type form func(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, started func(address string, more ...string)) error

func (s *settings) run(ctx context.Context, cmd *cobra.Command) error {
	log, err := s.log.New(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if err := s.configure(cmd.Flags()); err != nil {
		return err
	}
	// Before all that takes long: the gateway listens last, when the rest is there.
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
	log.Info("gateway has stopped")
	return nil
}

var isID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// configure checks what can be checked without NATS.
func (s *settings) configure(flags *pflag.FlagSet) error {
	if err := s.server.Check(); err != nil {
		return err
	}
	if s.nats.Given() {
		for _, name := range s.ownFlags {
			if flags.Changed(name) {
				return fmt.Errorf("--%s is of no use with --nats: it is for the NATS server or the room service, which run elsewhere then", name)
			}
		}
		if err := s.nats.Check(); err != nil {
			return err
		}
	} else {
		if s.nats != (daemon.NATS{}) {
			return errors.New("who connects to NATS must say where it is: give --nats or --context, or set NATS_URL")
		}
		if err := s.standalone.Check(); err != nil {
			return err
		}
		// The room service sees all messages, those of NATS clients too.
		s.standalone.Service.LogMessages, s.server.LogMessages = s.server.LogMessages, false
		if !flags.Changed("drain-time") {
			s.server.DrainTime = standaloneDrain
		}
		s.standalone.Service.Change = flags.Changed // nobody else is there, and nats cannot change the stream
	}
	var err error
	if s.server.Keys, err = seal.Load(s.keyFiles, s.acceptPlain); err != nil {
		return fmt.Errorf("--encryption-key-file: %w", err)
	}
	if s.server.ID == "" {
		s.server.ID = daemon.NewID()
	}
	if !isID.MatchString(s.server.ID) {
		return fmt.Errorf("--id: %q is not 1 to 32 of A-Z a-z 0-9 _ and -", s.server.ID)
	}
	return nil
}

// runThin runs the gateway on a NATS elsewhere.
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
		started(address, "NATS", s.nats.String()+"; the log and the room service are there")
	})
}

// banner says in a few lines what runs where. More is pairs of a word and a line.
func (s *settings) banner(w io.Writer, address string, more ...string) {
	fmt.Fprintf(w, "\n  Roomcast %s\n\n", daemon.Version)
	line := func(word, says string) { fmt.Fprintf(w, "  %-12s%s\n", word, says) }
	line("open", s.server.URL(address))
	for i := 0; i+1 < len(more); i += 2 {
		line(more[i], more[i+1])
	}
	if s.ops.Listen != "off" {
		line("operators", server.Config{}.URL(s.ops.Listen)+"metrics, /readyz")
	}
	fmt.Fprintln(w)
}
