// Package daemon is how the two services of Roomcast run: flags and their
// environment names, the connection to NATS with the names the nats command line
// tool uses, logs, signals, the listener for operators, and the version.
//
// A main function of a service is a cobra command whose flags are bound into
// config structs, passed to [Main].
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
)

// Dialer opens one more connection to the same NATS. Name is what /connz and
// nats-top show, such as "gateway/<id>" or "roomsvc/<id>/commit". Options given here
// come after, and so win over, the ones the dialer brings itself.
type Dialer func(name string, opts ...nats.Option) (*nats.Conn, error)

// Main runs a command line to its end and returns the exit status: 0, or 1 after
// one line about the error on standard error. SIGINT and SIGTERM cancel the context
// that commands get; a second one ends the process at once. Prefix begins the
// environment names of the flags, such as "GATEWAY"; see [Environment].
func Main(prefix string, root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal has its usual effect again

	root.SilenceUsage = true
	root.SilenceErrors = true
	root.Version = Version()
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return Environment(prefix, root, cmd, os.Environ())
	}
	root.AddCommand(versionCommand())
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if hint := (*hintError)(nil); errors.As(err, &hint) {
		fmt.Fprintf(os.Stderr, "%s: %v\n%s\n", root.Name(), err, hint.hint)
	} else {
		fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
	}
	_ = cmd
	return 1
}
