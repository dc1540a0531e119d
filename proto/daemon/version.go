package daemon

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is the version of both programs and of the packages for JavaScript and Python: three
// numbers, as semver defines them. Between two versions it is the next one, followed by "-dev".
// CHANGELOG.md lists the changes of each version.
const Version = "0.2.0-dev"

// commit returns the commit from which this program was built. It returns "" if the build has
// not recorded the commit.
func commit(info *debug.BuildInfo) string {
	id, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			id = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = " and changes that are not committed"
		}
	}
	if id == "" {
		return ""
	}
	return id + modified
}

func versionCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version and the libraries of the build",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s %s\n", name, Version)
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return nil
			}
			if id := commit(info); id != "" {
				fmt.Fprintf(out, "commit %s\n", id)
			}
			fmt.Fprintf(out, "built with %s\n", info.GoVersion)
			for _, dep := range info.Deps {
				switch dep.Path {
				case "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2", "github.com/gobwas/ws":
					fmt.Fprintf(out, "  %s %s\n", dep.Path, dep.Version)
				}
			}
			return nil
		},
	}
}
