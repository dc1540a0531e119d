package service

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/grant"
	"roomcast/proto/seal"
	"roomcast/roomsvc/events"
	"roomcast/roomsvc/room"
	"roomcast/roomsvc/stream"
)

// Config is the configuration of a service. Start from [DefaultConfig] and set Dial.
type Config struct {
	Dial     daemon.Dialer         // opens connections to NATS; required
	Keys     *seal.Keys            // encrypts stored records and decrypts requests; nil = no encryption
	Instance string                // unique name of this instance, of letters and digits; "" = a random name
	Version  string                // version of the program, for the micro API: three numbers as in semver
	Log      *slog.Logger          // nil = slog.Default()
	Metrics  prometheus.Registerer // where metrics are registered; nil = nowhere

	Replicas       int           // of the stream, 1 to 5
	Sync           string        // when the NATS server syncs to disk: "always" before it acknowledges, or an interval
	HistoryPerRoom int           // records kept of one room, at least proto.PageSize
	HistoryAge     time.Duration // how long records are kept, at least a second
	MaxBytes       int64         // size of the stream; 0 = only the limits of the NATS server
	MaxMessage     int           // bytes of a message's body
	Commit         time.Duration // how long the stream may take to acknowledge; after that, waiting senders get "unavailable"

	// Change reports whether a limit of an existing log may be changed. The limit is given by the
	// name of its flag. Nil means that no limit may be changed. See [stream.Config].
	Change func(flag string) bool

	// Trusted names the NATS accounts whose requests may name any sender and close rooms, in
	// addition to this service's own account. A client of any other account is a guest.
	Trusted []string

	// GuestRights are the rights of guests, in the format of the flag --guest-rights.
	GuestRights []string

	// WitnessFile is the path of a file in which the service stores the newest stream sequence of
	// the log; "" = none. With the file, a restarted service notices that the log has lost its end.
	// Use it only on the machine of a single NATS server.
	WitnessFile string

	Lease      time.Duration // how long an instance counts as alive without a renewal of its lease, at least a second
	CloseWords []string      // texts that close their sender's connection and are never stored; empty texts are ignored
	TimeZone   string        // of stamps: "Local", "UTC" or a name such as "Asia/Shanghai"
	TimeLayout string        // of stamps, a layout for Go's package time

	// The limits of "exactly once". After a change of owner there is one more limit. The next owner
	// learns the keys from the room's log, so it knows only the keys of records that the log still
	// has.
	KeyWindow time.Duration // how long the owner remembers a message's key
	KeysKept  int           // how many keys of one sender in one room the owner remembers

	Queue       int           // commands waiting for one partition; more are refused as overloaded
	Window      int           // uncommitted records of one partition; at most half of HistoryPerRoom
	RoomsKept   int           // rooms of one partition that stay in memory without new messages
	Idle        time.Duration // how long a room without new messages stays in memory
	LogMessages bool          // log one line for every message, without its text

	Events events.Config // events that applications receive
}

// DefaultConfig returns the defaults that the flags show.
func DefaultConfig() Config {
	rules, log := room.DefaultRules(), stream.DefaultConfig()
	return Config{
		Version:  "0.0.0",
		Replicas: log.Replicas, Sync: "2m",
		HistoryPerRoom: log.HistoryPerRoom, HistoryAge: log.HistoryAge, MaxBytes: log.MaxBytes,
		MaxMessage: log.MaxMessage, Commit: log.Deadline,
		Trusted: []string{"APPS", "EDGE"}, GuestRights: []string{"read say"},
		Lease:      2 * time.Second,
		CloseWords: rules.CloseWords, TimeZone: "Local", TimeLayout: rules.Layout,
		KeyWindow: rules.Window, KeysKept: rules.Keys,
		Queue: 1024, Window: 512, RoomsKept: 4096, Idle: 3 * time.Minute,
		Events: events.DefaultConfig(),
	}
}

// Check returns an error that names the flag of a wrong setting. It does not connect.
func (c *Config) Check() error {
	_, badSync := c.syncAlways()
	_, badZone := c.zone()
	problems := []error{badSync, badZone, c.Events.Check()}
	if _, err := grant.FromFlag(c.GuestRights); err != nil {
		problems = append(problems, fmt.Errorf("--guest-rights: %w", err))
	}
	for _, bad := range []struct {
		is   bool
		says string
	}{
		{c.Replicas < 1 || c.Replicas > 5, "--replicas is 1 to 5, and not more than there are NATS servers"},
		{c.HistoryPerRoom < proto.PageSize, fmt.Sprintf("--history-per-room is at least %d", proto.PageSize)},
		{c.HistoryAge < time.Second, "--history-age is at least 1s"},
		{c.MaxMessage < 1 || c.MaxMessage > 256<<10, "--max-message is 1 to 262144 bytes"},
		{c.Commit < 100*time.Millisecond, "the commit deadline is at least 100ms"},
		{c.Lease < time.Second || c.Lease > time.Minute, "--lease is 1s to 1m"},
		{c.TimeLayout == "", `--time-layout is empty; write for example "2006-01-02 15:04:05"`},
		// A layout such as %Y-%m-%d would make all stamps equal.
		{time.Unix(0, 0).Format(c.TimeLayout) == time.Unix(1e9, 1).Format(c.TimeLayout), fmt.Sprintf("--time-layout %q holds no part of the time; write it as 2006-01-02 15:04:05 would look", c.TimeLayout)},
		{c.KeyWindow <= 0 || c.KeysKept < 1, "the window of keys must not be empty"},
		{c.Queue < 1 || c.Window < 1 || c.RoomsKept < 1 || c.Idle <= 0, "queue, window, rooms kept and idle time must be more than 0"},
	} {
		if bad.is {
			problems = append(problems, errors.New(bad.says))
		}
	}
	return errors.Join(problems...)
}

func (c *Config) syncAlways() (bool, error) {
	if c.Sync == "always" {
		return true, nil
	}
	if d, err := time.ParseDuration(c.Sync); err != nil || d <= 0 {
		return false, fmt.Errorf(`--sync is "always" or an interval such as 1s, not %q`, c.Sync)
	}
	return false, nil
}

func (c *Config) zone() (*time.Location, error) {
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return nil, fmt.Errorf(`--time-zone is "Local", "UTC" or a name such as "Asia/Shanghai": %w`, err)
	}
	return zone, nil
}

func (c *Config) rules(zone *time.Location) *room.Rules {
	words := slices.DeleteFunc(slices.Clone(c.CloseWords), func(w string) bool { return w == "" })
	return &room.Rules{
		CloseWords: words, Zone: zone, Layout: c.TimeLayout,
		Window: c.KeyWindow, Keys: c.KeysKept, MaxRecord: stream.MaxPayload(c.MaxMessage), History: c.HistoryPerRoom,
	}
}

func (c *Config) stream(always bool) stream.Config {
	return stream.Config{
		Replicas: c.Replicas, SyncAlways: always,
		HistoryPerRoom: c.HistoryPerRoom, HistoryAge: c.HistoryAge, MaxBytes: c.MaxBytes,
		MaxMessage: c.MaxMessage, Change: c.Change, Deadline: c.Commit, Keys: c.Keys,
		Log: c.Log,
		Dial: func(opts ...nats.Option) (*nats.Conn, error) {
			return c.Dial("roomsvc/"+c.Instance+"/commit", opts...)
		},
	}
}
