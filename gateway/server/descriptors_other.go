//go:build !unix

package server

import "log/slog"

// FileLimit returns the largest number of file descriptors that this process may have.
func FileLimit() int { return 1 << 30 }

// maxConnections returns how many connections to serve, which is the configured number. 0 means
// that there is no limit.
func maxConnections(configured, _ int, _ *slog.Logger) int { return configured }
