package daemon

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"
)

// Log contains the settings of the logger.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// DefaultLog returns the default settings.
func DefaultLog() Log { return Log{Level: "info", Format: "text"} }

// Bind registers the flags for the log.
func (l *Log) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&l.Level, "log-level", l.Level, "write log lines of this `level` and above: debug, info, warn or error")
	flags.StringVar(&l.Format, "log-format", l.Format, "write log lines in this `format`: text or json")
}

// New returns the logger. An error names the flag with the wrong value.
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
