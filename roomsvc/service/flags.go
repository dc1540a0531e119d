package service

import "github.com/spf13/pflag"

// Bind makes the flags that the room service has both alone and inside a standalone
// gateway. --sync and --max-message are their mains' own: there they concern more than
// the service.
func (c *Config) Bind(flags *pflag.FlagSet) {
	flags.IntVar(&c.Replicas, "replicas", c.Replicas, "keep the log on this `number` of NATS servers, 1 to 5; 3 survive the loss of one")
	flags.IntVar(&c.HistoryPerRoom, "history-per-room", c.HistoryPerRoom, "keep this `number` of messages of each room")
	flags.DurationVar(&c.HistoryAge, "history-age", c.HistoryAge, "keep messages for this `time`; a room quiet for longer begins anew at 1")
	flags.Int64Var(&c.MaxBytes, "history-bytes", c.MaxBytes, "keep at most this number of `bytes` of all rooms together, dropping the oldest; 0 = as much as NATS may store; without --nats half of the free disk unless given")
	flags.DurationVar(&c.Commit, "commit-timeout", c.Commit, "refuse a message as unavailable if the log has not taken it within this `time`")
	flags.DurationVar(&c.Lease, "lease", c.Lease, "take over the rooms of an instance that gave no sign of life for this `time`, 1s to 1m")
	flags.StringArrayVar(&c.CloseWords, "close-word", c.CloseWords, "close the connection of whoever sends exactly this `text`, and show it to nobody; repeatable, \"\" for none")
	flags.StringVar(&c.TimeZone, "time-zone", c.TimeZone, "stamp messages in this time `zone`: Local, UTC or a name such as Asia/Shanghai")
	flags.StringVar(&c.TimeLayout, "time-layout", c.TimeLayout, "stamp messages in this `layout`, the time 2006-01-02 15:04:05 written as stamps should look")
	flags.DurationVar(&c.KeyWindow, "key-window", c.KeyWindow, "recognise a message that is sent again with the same key for this `time`")
	flags.IntVar(&c.KeysKept, "keys-kept", c.KeysKept, "recognise this `number` of keys of one sender in one room")
	flags.IntVar(&c.Queue, "queue", c.Queue, "let this `number` of messages wait in each partition; more are refused as overloaded")
	flags.BoolVar(&c.LogMessages, "log-messages", c.LogMessages, "log one line for every message: room, seq, sender and size, never the text")
}
