package main

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"roomcast/proto/daemon"
)

func (s *settings) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "say whether the settings are good and what they need is there, and which are not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.log.New(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := s.configure(cmd.Flags()); err != nil {
				return err
			}
			ln, err := net.Listen("tcp", s.server.Listen)
			if err != nil {
				return fmt.Errorf("--listen: %w", err)
			}
			ln.Close()
			if s.nats.Given() {
				err = daemon.CheckNATS(cmd.OutOrStdout(), s.nats, "gateway/check", log)
			} else {
				err = s.standalone.tryOut(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "all settings are good")
			return nil
		},
	}
}
