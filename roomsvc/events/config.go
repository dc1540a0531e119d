package events

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"roomcast/proto"
	"roomcast/roomsvc/webhook"
)

// Config is the configuration of the events for applications. The zero Config turns them off.
type Config struct {
	Stream bool          // keep the stream ROOMEVENTS; Consumers and Webhooks imply it
	Age    time.Duration // how long the stream keeps events
	Bytes  int64         // greatest size of the stream; NATS drops the oldest events

	Consumers []string // names of the pull consumers to make, one for each application

	Webhooks    []string // URLs to which events are posted
	SecretFiles []string // one file for all of Webhooks, or a file for each webhook, in the same order
	Kinds       []string // kinds of the events to post; empty = all kinds
}

// DefaultConfig returns the defaults of the flags.
func DefaultConfig() Config {
	return Config{Age: 24 * time.Hour, Bytes: 256 << 20}
}

// Bind adds the flags.
func (c *Config) Bind(flags *pflag.FlagSet) {
	flags.BoolVar(&c.Stream, "events", c.Stream, "send applications what happens in rooms: keep the stream ROOMEVENTS with all events of the log, and with the people who join and leave; give all instances the same --events and --webhook flags")
	flags.DurationVar(&c.Age, "events-age", c.Age, "keep events for applications for this `time`")
	flags.Int64Var(&c.Bytes, "events-bytes", c.Bytes, "keep at most this number of `bytes` of events for applications; the oldest events are dropped")
	flags.StringArrayVar(&c.Consumers, "events-consumer", c.Consumers, "make a pull consumer with this `name`, from which an application reads ROOMEVENTS; implies --events; repeatable")
	flags.StringArrayVar(&c.Webhooks, "webhook", c.Webhooks, "post events to this `URL`, which must begin with https, or may begin with http on this machine; SSL_CERT_FILE names the authorities to trust instead of those of the system; implies --events; repeatable")
	flags.StringArrayVar(&c.SecretFiles, "webhook-secret-file", c.SecretFiles, "sign posts with the secret in this `file`, written as whsec_ and base64; if the file has two secrets, both sign; give one file for all URLs, or repeat the flag for each URL")
	flags.StringSliceVar(&c.Kinds, "webhook-events", c.Kinds, "post only these `kinds` of events, such as message,deleted,joined,left; all by default")
}

// On reports whether applications receive events.
func (c *Config) On() bool { return c.Stream || len(c.Consumers) > 0 || len(c.Webhooks) > 0 }

var isConsumer = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// kinds returns the names of all kinds of events.
func kinds() []string {
	all := []string{typeMessage}
	for i := range proto.Acts {
		all = append(all, string(proto.Acts[i].Kind))
	}
	for _, kind := range proto.Occurrences {
		all = append(all, string(kind))
	}
	return all
}

// Check returns an error that names the flag of a wrong setting.
func (c *Config) Check() error {
	if c.On() && c.Age < time.Minute {
		return errors.New("--events-age is at least 1m")
	}
	if c.On() && c.Bytes < 1<<20 {
		return errors.New("--events-bytes is at least 1048576")
	}
	for _, name := range c.Consumers {
		if !isConsumer.MatchString(name) {
			return fmt.Errorf("--events-consumer: %q is not 1 to 64 of A-Z a-z 0-9 _ and -", name)
		}
	}
	for i, address := range c.Webhooks {
		if err := webhook.CheckURL(address); err != nil {
			return err
		}
		if slices.Contains(c.Webhooks[:i], address) {
			return fmt.Errorf("--webhook: %s is given twice", address)
		}
	}
	if n := len(c.SecretFiles); len(c.Webhooks) > 0 && n != 1 && n != len(c.Webhooks) {
		return fmt.Errorf("--webhook needs --webhook-secret-file, one for all URLs or one for each; there are %d", n)
	} else if n > 0 && len(c.Webhooks) == 0 {
		return errors.New("--webhook-secret-file needs --webhook")
	}
	for _, file := range c.SecretFiles {
		if err := webhook.CheckFile(file); err != nil {
			return err
		}
	}
	for _, kind := range c.Kinds {
		if !slices.Contains(kinds(), kind) {
			return fmt.Errorf("--webhook-events: %q is none of %s", kind, strings.Join(kinds(), ", "))
		}
	}
	return nil
}
