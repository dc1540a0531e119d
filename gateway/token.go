package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"roomcast/gateway/auth"
	"roomcast/proto/daemon"
)

// tokenCommand returns the command that makes tokens for tests and scripts. Applications make
// tokens themselves.
func tokenCommand() *cobra.Command {
	m := auth.Mint{TTL: time.Hour}
	keyFile := ""
	cmd := &cobra.Command{
		Use:   "token",
		Short: "make a token for one user, for tests and scripts",
		Long: `token prints a JSON Web Token for one user. A gateway accepts it if --auth-key-file holds
the same secret, or the public key of the private key. Whoever has the token is that user until
it expires.`,
		Example: `  openssl rand -hex 32 > secret
  gateway --auth-key-file secret
  gateway token --key-file secret --sub ann --name Ann --rooms 'team-*=read say' --ttl 1h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if keyFile == "" {
				return fmt.Errorf("--key-file is missing: the token must be signed")
			}
			if m.Key, err = os.ReadFile(keyFile); err != nil {
				return fmt.Errorf("--key-file: %w", err)
			}
			token, err := m.Token(time.Now())
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&keyFile, "key-file", "", "sign with the HMAC secret or the PEM private key in this `file`")
	flags.StringVar(&m.Subject, "sub", "", "the user's `id`")
	flags.StringVar(&m.Name, "name", "", "the `name` that others see")
	flags.StringArrayVar(&m.Rooms, "rooms", nil, "give these `rights`: read, say and moderate in all rooms, or team-*=read say; repeatable; without it, the gateway's --default-rights apply")
	flags.DurationVar(&m.TTL, "ttl", m.TTL, "let the token expire after this `time`")
	flags.StringVar(&m.Issuer, "iss", "", "set the claim `iss`")
	flags.StringVar(&m.Audience, "aud", "", "set the claim `aud`")
	flags.StringVar(&m.KeyID, "kid", "", "name the `key`, for a gateway with a JWKS")
	daemon.NoEnv(flags)
	return cmd
}
