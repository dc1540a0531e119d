package proto

import (
	"encoding/json"
	"fmt"
	"time"
)

// SnapshotVersion is the version of [Snapshot] that this program writes.
const SnapshotVersion = 1

// Snapshot is the state of a room that outlives its log, on room.state.<p>.<g>. The owner first
// commits an act in the log and then the snapshot. After both it acknowledges the act. A snapshot
// never holds the content of a message.
type Snapshot struct {
	Epoch  string    `json:"epoch"`            // of Seq
	Seq    uint64    `json:"seq"`              // of the newest act that the snapshot includes
	Closed bool      `json:"closed,omitempty"` // holds in later epochs too
	Why    string    `json:"why,omitempty"`    // the reason of the close
	At     time.Time `json:"at"`               // of that act

	Limits *Restrictions `json:"-"` // hold in later epochs too; nil = none

	// other holds unknown fields, which a newer version has written.
	other map[string]json.RawMessage
}

// Behind reports whether the snapshot includes an act after r, a record of the room.
func (s *Snapshot) Behind(r *Record) bool {
	if s.Epoch == r.State.Epoch {
		return s.Seq > r.Seq
	}
	return s.At.After(r.State.At)
}

// Keep copies the fields of older that this version does not know.
func (s *Snapshot) Keep(older *Snapshot) { s.other = older.other }

// known lists the fields of this version.
var known = [...]string{"version", "epoch", "seq", "closed", "why", "at", "bans", "mutes", "slow_ms", "deleted", "edits"}

// AppendJSON appends the snapshot in its stored form.
func (s *Snapshot) AppendJSON(b []byte) ([]byte, error) {
	fields := make(map[string]any, len(known)+len(s.other))
	for name, value := range s.other {
		fields[name] = value
	}
	fields["version"], fields["epoch"], fields["seq"] = SnapshotVersion, s.Epoch, s.Seq
	fields["closed"], fields["at"] = s.Closed, s.At.UTC()
	if s.Why != "" {
		fields["why"] = s.Why
	}
	if l := s.Limits; l != nil {
		if len(l.Bans) > 0 {
			fields["bans"] = l.Bans
		}
		if len(l.Mutes) > 0 {
			fields["mutes"] = l.Mutes
		}
		if l.Slow > 0 {
			fields["slow_ms"] = l.Slow.Milliseconds()
		}
		if len(l.Deleted) > 0 {
			fields["deleted"] = l.Deleted
		}
		if len(l.Edits) > 0 {
			fields["edits"] = l.Edits
		}
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return b, fmt.Errorf("write snapshot: %w", err)
	}
	return append(b, out...), nil
}

// ParseSnapshot reads the output of [Snapshot.AppendJSON]. It keeps unknown fields, and
// returns [ErrNewerSchema] for a newer version.
func ParseSnapshot(b []byte) (Snapshot, error) {
	var head struct {
		Version int                 `json:"version"`
		Bans    map[string]int64    `json:"bans"`  // see Restrictions
		Mutes   map[string]int64    `json:"mutes"` // see Restrictions
		Slow    int64               `json:"slow_ms"`
		Deleted map[uint64]Stub     `json:"deleted"` // see Restrictions
		Edits   map[uint64][]uint64 `json:"edits"`   // see Restrictions
		Snapshot
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot: %w", err)
	}
	if head.Version > SnapshotVersion {
		return Snapshot{}, fmt.Errorf("parse snapshot: %w", ErrNewerSchema)
	}
	s := head.Snapshot
	s.Limits = &Restrictions{
		Epoch: s.Epoch, Seq: s.Seq, Bans: head.Bans, Mutes: head.Mutes, Slow: time.Duration(head.Slow) * time.Millisecond,
		Deleted: head.Deleted, Edits: head.Edits,
	}
	if err := json.Unmarshal(b, &s.other); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot: %w", err)
	}
	for _, name := range known {
		delete(s.other, name)
	}
	return s, nil
}

// Witness records the length of the log, on [SubjectWitness]. A log that later ends before
// Last has lost its end. Then each room whose newest record is at or before Cut begins a
// new epoch with its next record.
type Witness struct {
	Created time.Time `json:"created"` // the stream
	Last    uint64    `json:"last"`    // stream sequence
	Cut     uint64    `json:"cut,omitempty"`
	Losses  uint64    `json:"losses,omitempty"` // number of noticed losses
}
