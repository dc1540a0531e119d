//go:build unix

package server

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// spareDescriptors are kept for files, NATS and whoever is to be told that the server
// is full.
const spareDescriptors = 64

// connectionsThatFit returns how many connections to take: what is asked for (0 = as
// many as possible), but no more than there are file descriptors. The Go runtime has
// raised the limit as far as the system lets it.
func connectionsThatFit(asked int, log *slog.Logger) int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return asked
	}
	fit := max(1, int(min(files.Cur, 1<<30))-spareDescriptors)
	if asked > fit {
		log.Warn("--max-connections is more than there are file descriptors; raise the limit (ulimit -n)", "asked", asked, "fit", fit)
	}
	if asked == 0 || asked > fit {
		return fit
	}
	return asked
}
