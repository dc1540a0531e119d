//go:build unix

package server

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// FileLimit returns how many file descriptors the process may have.
func FileLimit() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return noFileLimit
	}
	return int(min(files.Cur, noFileLimit))
}

const noFileLimit = 1 << 30

// connectionsThatFit returns how many connections to serve: what is asked for (0 = as
// many as possible), but no more than the file descriptors allow. The rest of the process
// keeps a quarter of all descriptors, at most 256, and the given number beyond. Loops
// close a connection over this limit before they accept another, so nothing else of the
// process runs out. The Go runtime has raised the limit as far as the system permits.
func connectionsThatFit(asked, others int, log *slog.Logger) int {
	all := FileLimit()
	fit := max(1, all-min(all/4, 256)-others)
	if asked > fit {
		log.Warn("--max-connections is more than the file descriptors allow; raise the limit (ulimit -n)", "asked", asked, "fit", fit)
	}
	if asked == 0 || asked > fit {
		return fit
	}
	return asked
}
