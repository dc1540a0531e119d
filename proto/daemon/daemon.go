// Package daemon contains the parts that both programs share: flags and their environment
// variables, the connection to NATS, logs, signals, the listener for operators, and the version.
// The flags for NATS have the same names as in the nats command line tool.
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

// Dialer opens a connection to NATS. NATS tools such as nats-top show the name of the
// connection, for example "gateway/<id>" or "roomsvc/<id>/commit". The options of a call
// override the options of the dialer.
type Dialer func(name string, opts ...nats.Option) (*nats.Conn, error)

// Main runs the command line of a program and returns its exit status. If the command line is
// wrong, Main writes a line to standard error for each mistake and returns 1.
//
// Environment variables set the flags that are missing on the command line. For example,
// GATEWAY_LISTEN sets the flag --listen of gateway. [Env] can give a flag a variable with
// another name.
//
// SIGINT and SIGTERM cancel the context of the command. A second signal, if it comes later than
// [sameSignal] after the first, ends the process at once.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	afterSignal(ctx, stop)
	return execute(ctx, root, os.Args[1:], os.Environ(), os.Stderr)
}

// sameSignal is the time in which two signals count as one. Some programs, such as timeout(1),
// send a signal to the process and then to its process group, so it arrives twice.
const sameSignal = time.Second

// afterSignal calls stop after ctx has ended and [sameSignal] has passed. From then on, a signal
// ends the process at once.
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
		for line := range strings.Lines(err.Error()) { // errors that were joined have one line each
			fmt.Fprintf(stderr, "%s: %s\n", root.Name(), strings.TrimSuffix(line, "\n"))
		}
		return 1
	}
	return 0
}
