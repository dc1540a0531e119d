// Command roomsvc is the room service: it checks, orders, stamps and stores the messages of
// rooms. See package service.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	_ "time/tzdata" // for --time-zone on machines without a zone database

	"github.com/spf13/cobra"

	"roomcast/proto/daemon"
	"roomcast/proto/seal"
	"roomcast/roomsvc/service"
)

func main() { os.Exit(daemon.Main(command())) }

// settings holds the values of all flags.
type settings struct {
	log         daemon.Log
	ops         daemon.Ops
	nats        daemon.NATS
	keyFiles    []string
	acceptPlain bool
	service     service.Config
}

func command() *cobra.Command {
	s := &settings{
		log:     daemon.DefaultLog(),
		ops:     daemon.Ops{Listen: "127.0.0.1:9091"},
		nats:    daemon.NATS{},
		service: service.DefaultConfig(),
	}
	cmd := &cobra.Command{
		Use:   "roomsvc",
		Short: "the room service of Roomcast",
		Long: `roomsvc checks, orders, stamps and stores the messages of rooms. It receives them
from NATS on room.<name> and needs a NATS server with JetStream. Start any number of
instances; each room has one owner at a time.

Every flag has an environment variable, shown in brackets; the flag wins. For a flag
that may be repeated, separate the values in the variable by commas.`,
		Example: `  roomsvc --nats nats://127.0.0.1:4222
  roomsvc --nats nats://n1,nats://n2,nats://n3 --replicas 3 --creds roomsvc.creds
  NATS_URL=nats://127.0.0.1 ROOMSVC_CLOSE_WORD=bye roomsvc --time-zone Asia/Shanghai`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.PersistentFlags()
	flags.SortFlags = false
	s.nats.Bind(flags)
	flags.StringVar(&s.service.Sync, "sync", s.service.Sync, "repeat the sync_interval of the configuration of the NATS server: always, or an `interval` such as 2m; it decides how messages are committed")
	flags.IntVar(&s.service.MaxMessage, "max-message", s.service.MaxMessage, "set the maximum size of a message in `bytes`")
	s.service.Bind(flags)
	flags.StringArrayVar(&s.service.Trusted, "trust-account", s.service.Trusted, "trust requests from this NATS `account`: they may name any sender and close rooms, like those of the service's own account; requests from other accounts are guests; repeatable")
	flags.StringArrayVar(&s.service.GuestRights, "guest-rights", s.service.GuestRights, "give clients of other accounts these `rights`: read and say in all rooms, or lobby=read say; \"\" gives none; repeatable; give gateways the same")
	flags.StringArrayVar(&s.keyFiles, "encryption-key-file", nil, "encrypt messages with the secret in this `file`; repeatable: the first secret encrypts, all decrypt")
	flags.BoolVar(&s.acceptPlain, "encryption-accept-plain", false, "with --encryption-key-file: also read records that are not encrypted, for a log that began without encryption")
	s.ops.Bind(flags)
	s.log.Bind(flags)
	cmd.AddCommand(s.checkCommand(), s.rotateCommand(), daemon.ReadyCommand(&s.ops, nil))
	return cmd
}

func (s *settings) run(ctx context.Context, stderr io.Writer) error {
	log, err := s.log.New(stderr)
	if err != nil {
		return err
	}
	cfg, err := s.config()
	if err != nil {
		return err
	}
	reg := daemon.NewRegistry()
	cfg.Log, cfg.Metrics, cfg.Dial = log, reg, s.nats.Dialer(log)
	svc, err := service.New(cfg)
	if err != nil {
		return err
	}
	ops, err := s.ops.Serve(log, reg, daemon.Probe{Name: "roomsvc", Ready: svc.Ready})
	if err != nil {
		return err
	}
	defer ops.Close()
	if err := daemon.Await(ctx, cfg.Dial, s.nats.String(), "roomsvc/"+cfg.Instance, log); err != nil {
		return err
	}
	log.Info("roomsvc is starting", "instance", cfg.Instance, "version", daemon.Version, "nats", s.nats.String())
	if err := svc.Run(ctx); err != nil {
		return err
	}
	log.Info("roomsvc stopped")
	return nil
}

// config returns the service's configuration, after the checks that need no NATS.
func (s *settings) config() (service.Config, error) {
	if !s.nats.Given() {
		s.nats.URL = daemon.DefaultURL
	}
	cfg := s.service
	problems := []error{s.nats.Check(), cfg.Check()}
	var err error
	if cfg.Keys, err = seal.Load(s.keyFiles, s.acceptPlain); err != nil {
		problems = append(problems, fmt.Errorf("--encryption-key-file: %w", err))
	}
	cfg.Instance = daemon.NewID()
	cfg.Version = daemon.Version
	return cfg, errors.Join(problems...)
}

// rotateCommand changes the signing keys of a running system.
func (s *settings) rotateCommand() *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use:   "rotate-keys",
		Short: "make a new key that signs resume strings and tickets",
		Long: `rotate-keys makes a new key that signs resume strings and tickets. Running gateways receive it
at once. roomsvc does this every 7 days by itself, and keeps the old keys until their last string
has expired. With --now it deletes the old keys: a client that reconnects is then a new guest, or
needs its token or a new ticket. Open sessions stay open.`,
		Example: `  roomsvc rotate-keys --now --nats nats://127.0.0.1:4222 --user roomsvc --inbox-prefix _INBOX_roomsvc`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.log.New(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg, err := s.config()
			if err != nil {
				return err
			}
			cfg.Log, cfg.Dial = log, s.nats.Dialer(log)
			if err := service.RotateKeys(cmd.Context(), cfg, now); err != nil {
				return err
			}
			said := "a new signing key is stored; resume strings and tickets signed with the old keys stay valid"
			if now {
				said = "a new signing key is stored; all earlier resume strings and tickets are invalid"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
			return err
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "also invalidate all resume strings and tickets, for example because a backup of NATS was stolen")
	daemon.NoEnv(cmd.Flags())
	return cmd
}

func (s *settings) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "check the settings and NATS, and report problems",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.log.New(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if _, err := s.config(); err != nil {
				return err
			}
			if err := daemon.CheckNATS(cmd.OutOrStdout(), s.nats, "roomsvc/check", false, log); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "all settings are good")
			return nil
		},
	}
}
