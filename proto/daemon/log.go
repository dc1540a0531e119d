package daemon

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"
)

// Log is how a service logs.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// DefaultLog returns what the flags default to.
func DefaultLog() Log { return Log{Level: "info", Format: "text"} }

// Bind makes the log flags.
func (l *Log) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&l.Level, "log-level", l.Level, "log what is at least this `level`: debug, info, warn or error")
	flags.StringVar(&l.Format, "log-format", l.Format, "write log lines in this `format`: text or json")
}

// New makes the logger; its errors name the flag at fault.
func (l Log) New(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is not debug, info, warn or error", l.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.Format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is not text or json", l.Format)
}
