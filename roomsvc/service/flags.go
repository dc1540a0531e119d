package service

import "github.com/spf13/pflag"

// Bind adds the flags that the room service has both alone and inside a standalone gateway. The
// main programs add --sync and --max-message themselves, because a standalone gateway uses them for
// more than the service.
func (c *Config) Bind(flags *pflag.FlagSet) {
	flags.IntVar(&c.Replicas, "replicas", c.Replicas, "keep the log on this `number` of NATS servers, 1 to 5; with 3, it survives the loss of one server")
	flags.IntVar(&c.HistoryPerRoom, "history-per-room", c.HistoryPerRoom, "keep this `number` of messages of each room")
	flags.DurationVar(&c.HistoryAge, "history-age", c.HistoryAge, "keep messages for this `time`; a room without newer messages begins a new epoch")
	flags.Int64Var(&c.MaxBytes, "history-bytes", c.MaxBytes, "keep at most this number of `bytes` of all rooms together, and drop the oldest; 0 = as much as NATS permits; without --nats the default is half of the free disk space")
	flags.DurationVar(&c.Commit, "commit-timeout", c.Commit, "refuse a message as unavailable if it cannot be stored within this `time`")
	flags.DurationVar(&c.Lease, "lease", c.Lease, "take over the rooms of an instance after this `time` without its heartbeat, 1s to 1m")
	flags.StringArrayVar(&c.CloseWords, "close-word", c.CloseWords, "close the connection that sends exactly this `text`, and store nothing; repeatable; \"\" disables close words")
	flags.StringVar(&c.TimeZone, "time-zone", c.TimeZone, "write stamps in this time `zone`: Local, UTC or a name such as Asia/Shanghai")
	flags.StringVar(&c.TimeLayout, "time-layout", c.TimeLayout, "write stamps in this `layout`, which shows how to write the time 2006-01-02 15:04:05")
	flags.DurationVar(&c.KeyWindow, "key-window", c.KeyWindow, "remember the keys of messages for this `time`, to recognise a message that is sent again")
	flags.IntVar(&c.KeysKept, "keys-kept", c.KeysKept, "remember this `number` of keys of each sender in each room")
	flags.IntVar(&c.Queue, "queue", c.Queue, "queue at most this `number` of messages in each partition; more are refused as overloaded")
	flags.BoolVar(&c.LogMessages, "log-messages", c.LogMessages, "write a log line for every message, with room, seq, sender and size, never with the text")
	c.Events.Bind(flags)
}
