// Package stream creates the JetStream stream that contains the logs of all rooms, and appends
// records to it. It ensures that only the owner of a partition can append records of that
// partition.
//
// The right to append is called a fence. The owner of partition 7 takes the fence when it writes a
// message, its marker, to the subject room.own.7 of the stream. Each record that it appends later
// names the stream sequence of this marker. If the subject has a newer marker, the server refuses
// the record (error 10071). So a former owner cannot append, even if it was paused or cut off and
// does not know that it has a successor.
//
// marker.go takes fences, commit.go appends records under a fence, and batch.go commits the
// appended records. conn.go is the connection over which markers and records are sent. witness.go
// notices when the server has lost the newest records.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// Config says how the stream is set up and how records are appended.
type Config struct {
	Replicas       int           // 1, or more in a cluster of at least as many servers
	SyncAlways     bool          // the server syncs to disk before it acknowledges
	HistoryPerRoom int           // records that the stream keeps of one room
	HistoryAge     time.Duration // how long the stream keeps records
	MaxBytes       int64         // of the whole stream; 0 = no limit
	MaxMessage     int           // bytes of a message's body

	// Change reports whether the operator has given a flag, such as history-age. Ensure changes a
	// limit of an existing stream only if its flag was given. So a default value never shrinks a
	// stream that other instances use. Nil means that Ensure changes no limit.
	Change func(flag string) bool

	Deadline time.Duration // for the stream to acknowledge a record
	Keys     *seal.Keys    // encrypt the payloads of records; nil = no encryption
	Log      *slog.Logger
	Lost     func(Loss)                                    // called for each loss that this instance notices; may be nil
	Damaged  func(proto.Room)                              // see [history.Log]
	Dial     func(opts ...nats.Option) (*nats.Conn, error) // opens a commit connection
}

// DefaultConfig returns the defaults; the caller sets Log and Dial.
func DefaultConfig() Config {
	return Config{
		Replicas: 1, HistoryPerRoom: 1000, HistoryAge: 7 * 24 * time.Hour, MaxMessage: 64 << 10,
		Deadline: 2 * time.Second,
	}
}

// headerBytes limits those bytes of a record's NATS message that are not its payload. They are the
// headers of Roomcast, of the fence and of the batch, and the bytes that encryption adds.
const headerBytes = 2 << 10

// MaxPayload returns the greatest length of an event as JSON. The body of its message has at most
// maxMessage bytes. Escapes in text or base64 may double the length of the body. The other fields
// have at most 2 KiB.
func MaxPayload(maxMessage int) int { return 2*maxMessage + 2<<10 }

func (c *Config) maxMsgSize() int32 { return int32(MaxPayload(c.MaxMessage) + headerBytes) }

// Keys of the stream's metadata.
const (
	metaPartitions = "roomcast.partitions"
	metaSchema     = "roomcast.schema"
)

func (c *Config) settings() jetstream.StreamConfig {
	maxBytes := c.MaxBytes
	if maxBytes == 0 {
		maxBytes = -1
	}
	return jetstream.StreamConfig{
		Name:               proto.StreamName,
		Description:        "the logs of all rooms of roomcast",
		Subjects:           []string{proto.SubjectAnyLog, proto.SubjectAnyOwn},
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardOld,
		Storage:            jetstream.FileStorage,
		Replicas:           c.Replicas,
		MaxMsgsPerSubject:  int64(c.HistoryPerRoom),
		MaxAge:             c.HistoryAge,
		MaxBytes:           maxBytes,
		MaxMsgSize:         c.maxMsgSize(),
		Duplicates:         min(time.Minute, c.HistoryAge), // at most MaxAge, as NATS requires; without effect, because the owner recognises a resend by its key
		AllowDirect:        true,
		AllowAtomicPublish: true,
		RePublish:          &jetstream.RePublish{Source: proto.SubjectAnyLog, Destination: proto.RepublishTo},
		Metadata:           metadata(),
	}
}

func metadata() map[string]string {
	return map[string]string{
		metaPartitions: strconv.Itoa(proto.Partitions),
		metaSchema:     strconv.Itoa(proto.SchemaVersion),
	}
}

// stateSettings returns the settings of [proto.StateStream], which holds one snapshot of each
// room. It has no limit of age or size, because a snapshot must outlive the room's log.
func (c *Config) stateSettings() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              proto.StateStream,
		Description:       "state of rooms of roomcast that outlives their logs: whether a room is closed",
		Subjects:          []string{proto.SubjectStates, proto.SubjectStateOwn}, // SubjectStateOwn matches SubjectWitness too
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		Storage:           jetstream.FileStorage,
		Replicas:          c.Replicas,
		MaxMsgsPerSubject: -1, // no limit; sweep.go deletes old snapshots
		MaxBytes:          -1,
		MaxMsgSize:        -1,
		Duplicates:        time.Minute, // NATS's own detection of duplicates is unused; each write names the last sequence
		AllowDirect:       true,
		Metadata:          metadata(),
	}
}

// Ensure makes the streams of records and of snapshots. If a stream exists, Ensure checks its
// settings. It changes only limits that cfg.Change allows, because other instances may use the
// stream with other settings. Its errors say what the operator can do.
func Ensure(ctx context.Context, nc *nats.Conn, cfg Config) error {
	if err := ensure(ctx, nc, cfg, cfg.settings()); err != nil {
		return err
	}
	return ensure(ctx, nc, cfg, cfg.stateSettings())
}

func ensure(ctx context.Context, nc *nats.Conn, cfg Config, want jetstream.StreamConfig) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	if limit := nc.MaxPayload(); int64(want.MaxMsgSize) > limit {
		return fmt.Errorf("a message of %d bytes needs up to %d in the log, but this NATS server takes %d: lower --max-message or raise max_payload in nats.conf",
			cfg.MaxMessage, want.MaxMsgSize, limit)
	}
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another instance has just made the stream
			s, err = js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return explain(want, err)
	}
	have := s.CachedInfo().Config
	mayChange := cfg.Change
	if want.Name != proto.StreamName && have.Metadata[metaSchema] != "" {
		// The stream of snapshots gets as many replicas as the log. The replicas of the log were
		// checked before.
		if err := follow(ctx, js, have, want.Replicas, cfg.Log); err != nil {
			return err
		}
		have.Replicas = want.Replicas
		mayChange = func(string) bool { return true } // a stream that version 0.1.0 made has another limit
	}
	same, err := check(have, want, mayChange)
	if err != nil || same {
		return err
	}
	if _, err := js.UpdateStream(ctx, withLimits(have, want)); err != nil {
		return fmt.Errorf("change the limits of stream %s: %w", want.Name, err)
	}
	cfg.Log.Info("changed limits of stream", "stream", want.Name,
		"per_subject", want.MaxMsgsPerSubject, "age", want.MaxAge, "bytes", want.MaxBytes, "message_bytes", want.MaxMsgSize)
	return nil
}

// withLimits returns the settings in have, but with the limits in want.
func withLimits(have, want jetstream.StreamConfig) jetstream.StreamConfig {
	have.MaxMsgsPerSubject, have.MaxAge, have.Duplicates = want.MaxMsgsPerSubject, want.MaxAge, want.Duplicates
	have.MaxBytes, have.MaxMsgSize = want.MaxBytes, want.MaxMsgSize
	return have
}

// explain adds advice to an error of JetStream.
func explain(want jetstream.StreamConfig, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("open stream %s: %w: turn JetStream on in nats.conf (jetstream {}), for this account too", want.Name, err)
	case strings.Contains(err.Error(), "overlap"):
		return fmt.Errorf("open stream %s: %w: another stream of this account takes one of %s; remove it or use another account",
			want.Name, err, strings.Join(want.Subjects, " "))
	}
	return fmt.Errorf("open stream %s: %w", want.Name, err)
}

// check compares the settings of a stream with the wanted ones. It returns false if they differ
// only in limits that change allows. Any other difference is an error.
func check(have, want jetstream.StreamConfig, change func(flag string) bool) (same bool, err error) {
	p, schema := have.Metadata[metaPartitions], have.Metadata[metaSchema]
	if p == "" || schema == "" {
		return false, fmt.Errorf("stream %s was not made by roomcast: its metadata has no %s; use another account, or remove it with: nats stream rm %s",
			have.Name, metaPartitions, have.Name)
	}
	if p != want.Metadata[metaPartitions] {
		return false, fmt.Errorf("stream %s has %s partitions and this roomsvc has %s, which is permanent: run the roomsvc that made it, or begin a new stream in another account",
			have.Name, p, want.Metadata[metaPartitions])
	}
	if n, err := strconv.Atoi(schema); err != nil || n > proto.SchemaVersion {
		return false, fmt.Errorf("stream %s has schema %s and this roomsvc knows %d: %w", have.Name, schema, proto.SchemaVersion, proto.ErrNewerSchema)
	}
	same = true
	type setting struct {
		name       string
		have, want any
		repair     string // arguments of "nats stream edit ROOMS", or ""
		limit      string // flag of a setting that withLimits changes, or ""
	}
	for _, s := range []setting{
		{"subjects", fmt.Sprint(slices.Sorted(slices.Values(have.Subjects))), fmt.Sprint(slices.Sorted(slices.Values(want.Subjects))), "", ""},
		{"retention", have.Retention, want.Retention, "", ""},
		{"storage", have.Storage, want.Storage, "", ""},
		{"discard policy", have.Discard, want.Discard, "", ""},
		{"republish", fmt.Sprint(have.RePublish), fmt.Sprint(want.RePublish), "", ""},
		{"deny delete", have.DenyDelete, want.DenyDelete, "", ""},
		{"direct get", have.AllowDirect, want.AllowDirect, "--allow-direct", ""},
		{"atomic publish", have.AllowAtomicPublish, want.AllowAtomicPublish, "--allow-batch", ""},
		{"replicas (--replicas)", have.Replicas, want.Replicas, fmt.Sprintf("--replicas %d", want.Replicas), ""},
		{"records per room (--history-per-room)", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, fmt.Sprintf("--max-msgs-per-subject %d", want.MaxMsgsPerSubject), "history-per-room"},
		{"age of records (--history-age)", have.MaxAge, want.MaxAge, fmt.Sprintf("--max-age %s", want.MaxAge), "history-age"},
		{"bytes (--history-bytes)", have.MaxBytes, want.MaxBytes, fmt.Sprintf("--max-bytes %d", want.MaxBytes), "history-bytes"},
		{"record size (by --max-message)", have.MaxMsgSize, want.MaxMsgSize, fmt.Sprintf("--max-msg-size %d", want.MaxMsgSize), "max-message"},
	} {
		if s.have == s.want {
			continue
		}
		alone := s.limit != "" && change != nil
		if alone && change(s.limit) {
			same = false
			continue
		}
		advice := "use another account, or remove it with: nats stream rm " + have.Name
		if alone {
			advice = fmt.Sprintf("start with the setting the log has, or give --%s to change the log", s.limit)
		} else if s.repair != "" {
			advice = fmt.Sprintf("start all instances with the setting the stream has, or change it with: nats stream edit %s %s", have.Name, s.repair)
		}
		return false, fmt.Errorf("stream %s has other settings: %s is %v, not %v; %s", have.Name, s.name, s.have, s.want, advice)
	}
	return same, nil
}
