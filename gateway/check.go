package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"roomcast/gateway/bridge"
	"roomcast/proto/daemon"
)

func (s *settings) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "check the settings, addresses, files, key URLs and NATS, and report problems",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.log.New(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := s.configure(cmd.Flags()); err != nil {
				return err
			}
			problems := []error{tryListen("--listen", s.server.Listen, ""), s.server.Auth.TryURLs(cmd.Context())}
			if s.ops.Listen != "off" {
				problems = append(problems, tryListen("--ops-listen", s.ops.Listen, ", or off"))
			}
			if s.nats.Given() {
				problems = append(problems, daemon.CheckNATS(cmd.OutOrStdout(), s.nats, "gateway/check", true, log, bridge.OwnInbox(s.server.ID)))
			} else {
				problems = append(problems, s.standalone.tryOut(cmd.OutOrStdout()))
			}
			if err := errors.Join(problems...); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "all settings are good")
			return nil
		},
	}
}

// askPage requests the page. The gateway serves it only while it is ready.
func (s *settings) askPage(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.server.URL(s.listen()), nil)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	// Do not check the certificate: it names the public host, not this address.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("nothing answers at --listen: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", resp.Status)
	}
	return nil
}

// tryListen returns an error if this process cannot listen on the address. The error names the
// flag.
func tryListen(flag, address, or string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s: %w; choose another address%s", flag, err, or)
	}
	return ln.Close()
}
