package daemon

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version returns what this binary was built from: the module's version, or "devel"
// with the commit where the toolchain recorded one.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	version, commit, dirty := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			commit = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if version == "" || version == "(devel)" {
		version = "devel"
		if commit != "" {
			version += "-" + commit + dirty
		}
	}
	return version
}

// SemVer returns the version as NATS micro services must state it, three numbers;
// 0.0.0 where the build has none.
func SemVer() string {
	var major, minor, patch int
	if n, _ := fmt.Sscanf(Version(), "v%d.%d.%d", &major, &minor, &patch); n != 3 {
		return "0.0.0"
	}
	return fmt.Sprintf("%d.%d.%d", major, minor, patch)
}

func versionCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version and what it was built with",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, _ := debug.ReadBuildInfo()
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", name, Version())
			if info == nil {
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "built with %s\n", info.GoVersion)
			for _, dep := range info.Deps {
				switch dep.Path {
				case "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2", "github.com/gobwas/ws":
					fmt.Fprintf(cmd.OutOrStdout(), "  %s %s\n", dep.Path, dep.Version)
				}
			}
			return nil
		},
	}
}
