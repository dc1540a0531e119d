package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"roomcast/proto/daemon"
)

// rotateCommand changes the signing keys of a standalone gateway that has stopped.
func (s *settings) rotateCommand() *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use:   "rotate-keys",
		Short: "make a new key that signs resume strings and tickets, while a standalone gateway is stopped",
		Long: `rotate-keys makes a new key that signs resume strings and tickets, in the data directory of a
standalone gateway. Stop the gateway before, and start it again. The gateway makes a new key every
7 days by itself, and keeps the old keys until their last string has expired. With --now the old
keys are gone: a client that reconnects is a new guest, or needs its token or a new ticket. For a
gateway with --nats there is roomsvc rotate-keys, which needs no stop.`,
		Example: `  gateway rotate-keys --now --data-dir /var/lib/roomcast`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.log.New(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if s.nats.Given() {
				return errors.New("with --nats the room service holds the keys; use roomsvc rotate-keys")
			}
			if err := s.standalone.Check(); err != nil {
				return err
			}
			if err := s.standalone.rotateKeys(cmd.Context(), log, now); err != nil {
				return err
			}
			said := "there is a new signing key; the old ones still verify what they have signed"
			if now {
				said = "there is a new signing key; all resume strings and tickets of before are invalid"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
			return err
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "also invalidate all resume strings and tickets, for example because a backup was stolen")
	daemon.NoEnv(cmd.Flags())
	return cmd
}
