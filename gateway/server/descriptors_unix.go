//go:build unix

package server

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// FileLimit returns the largest number of file descriptors that this process may have.
func FileLimit() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return noFileLimit
	}
	return int(min(files.Cur, noFileLimit))
}

const noFileLimit = 1 << 30

// maxConnections returns how many connections to serve. This is the configured number (0 = as
// many as possible), but not more than the file descriptors allow. The rest of the process keeps
// the reserved descriptors, and also a quarter of all descriptors, up to 256.
//
// At the limit, a loop closes each further connection before it accepts the next. So the process
// never runs out of descriptors. The Go runtime has already raised the soft limit to the hard
// limit.
func maxConnections(configured, reserved int, log *slog.Logger) int {
	all := FileLimit()
	fit := max(1, all-min(all/4, 256)-reserved)
	if configured > fit {
		log.Warn("--max-connections exceeds the file descriptors; raise the limit (ulimit -n)", "configured", configured, "possible", fit)
	}
	if configured == 0 || configured > fit {
		return fit
	}
	return configured
}
