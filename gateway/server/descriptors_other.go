//go:build !unix

package server

import "log/slog"

// FileLimit returns the maximum number of file descriptors of this process.
func FileLimit() int { return 1 << 30 }

// maxConnections returns the configured number; 0 = no limit.
func maxConnections(configured, _ int, _ *slog.Logger) int { return configured }
