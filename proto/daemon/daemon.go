// Package daemon is how the two services of Roomcast run: flags and their
// environment names, the connection to NATS with the names the nats command line
// tool uses, logs, signals, the listener for operators, and the version.
package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
)

// Dialer opens one more connection to the same NATS. Name is what /connz and
// nats-top show, such as "gateway/<id>" or "roomsvc/<id>/commit". Options given here
// come after, and so win over, the ones the dialer brings itself.
type Dialer func(name string, opts ...nats.Option) (*nats.Conn, error)

// Main runs a service's command line and returns the exit status: 0, or 1 after a
// line on standard error for each thing that is wrong. Flags that were not given are read from the environment:
// GATEWAY_LISTEN for --listen of gateway, unless [Env] gave it another name. SIGINT and SIGTERM cancel the context that commands get; one
// that comes later than [sameSignal] ends the process at once.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	afterSignal(ctx, stop)
	return execute(ctx, root, os.Args[1:], os.Environ(), os.Stderr)
}

// sameSignal is how long a second signal is taken for the first: timeout(1) and others
// send one to the process and one to its group, and nobody is in such a hurry.
const sameSignal = time.Second

// afterSignal calls stop, with which signals have their usual effect again, once ctx has
// ended and the same signal can come no more.
func afterSignal(ctx context.Context, stop func()) {
	context.AfterFunc(ctx, func() { time.AfterFunc(sameSignal, stop) })
}

func execute(ctx context.Context, root *cobra.Command, args, environ []string, stderr io.Writer) int {
	root.SilenceUsage = true
	root.SilenceErrors = true
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q; %s --help lists flags and commands", args[0], cmd.CommandPath())
		}
		return nil
	}
	root.Version = Version
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetArgs(args)
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return readEnvironment(root, cmd, environ, stderr)
	}
	root.Flags().SortFlags = false
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 100"))
	root.AddCommand(versionCommand(root.Name()))
	describeEnvironment(root)
	if err := root.ExecuteContext(ctx); err != nil {
		for line := range strings.Lines(err.Error()) { // several errors joined have one each
			fmt.Fprintf(stderr, "%s: %s\n", root.Name(), strings.TrimSuffix(line, "\n"))
		}
		return 1
	}
	return 0
}
