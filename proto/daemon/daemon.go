// Package daemon holds the parts that both programs share: flags and their environment
// names, the connection to NATS, logs, signals, the listener for operators, and the
// version. The flags for NATS have the names of the nats command line tool.
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

// Dialer opens a connection to NATS. /connz and nats-top show its name, such as "gateway/<id>"
// or "roomsvc/<id>/commit". The options of a call override those of the dialer.
type Dialer func(name string, opts ...nats.Option) (*nats.Conn, error)

// Main runs a program's command line and returns the exit status. After an error it writes a line
// for each mistake to standard error and returns 1.
//
// The environment sets the flags that the command line does not set: GATEWAY_LISTEN sets --listen
// of gateway, unless [Env] has given the flag another name.
//
// SIGINT and SIGTERM cancel the context of the command. A second signal after [sameSignal] ends
// the process at once.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	afterSignal(ctx, stop)
	return execute(ctx, root, os.Args[1:], os.Environ(), os.Stderr)
}

// sameSignal is the time in which a second signal counts as the first. Programs such as
// timeout(1) send one signal to the process and one to its group.
const sameSignal = time.Second

// afterSignal calls stop when ctx has ended and [sameSignal] has passed. Then signals have
// their usual effect again.
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
