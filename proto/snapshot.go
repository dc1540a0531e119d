package proto

import (
	"encoding/json"
	"fmt"
	"time"
)

// SnapshotVersion is the version of [Snapshot] that this program writes.
const SnapshotVersion = 1

// Snapshot is the part of a room's state that outlives the log. It is stored on
// room.state.<p>.<g>. The owner first commits an act to the log, then stores the snapshot, and
// then acknowledges the act. A snapshot never contains the content of a message.
type Snapshot struct {
	Epoch  string    `json:"epoch"`            // epoch of Seq
	Seq    uint64    `json:"seq"`              // seq of the newest act that the snapshot includes
	Closed bool      `json:"closed,omitempty"` // remains set in later epochs
	Why    string    `json:"why,omitempty"`    // the reason for the close
	At     time.Time `json:"at"`               // time of that act

	Limits *Restrictions `json:"-"` // bans, mutes and the slow mode remain in later epochs; nil = none

	// other contains unknown fields, which a newer version has written.
	other map[string]json.RawMessage
}

// NewerThan reports whether the snapshot includes an act that is newer than r. The record r belongs
// to the same room.
func (s *Snapshot) NewerThan(r *Record) bool {
	if s.Epoch == r.State.Epoch {
		return s.Seq > r.Seq
	}
	return s.At.After(r.State.At)
}

// Keep copies the unknown fields of older into s. Without them, storing s would lose what a newer
// version has written.
func (s *Snapshot) Keep(older *Snapshot) { s.other = older.other }

// known lists the names of the fields that this version knows.
var known = [...]string{"version", "epoch", "seq", "closed", "why", "at", "bans", "mutes", "slow_ms", "deleted", "edits", "edit_times"}

// AppendJSON appends the snapshot in the form in which it is stored.
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
		if len(l.EditTimes) > 0 {
			fields["edit_times"] = l.EditTimes
		}
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return b, fmt.Errorf("write snapshot: %w", err)
	}
	return append(b, out...), nil
}

// ParseSnapshot reads a snapshot that [Snapshot.AppendJSON] has written. It keeps unknown
// fields. It returns [ErrNewerSchema] if a newer version has written the snapshot.
func ParseSnapshot(b []byte) (Snapshot, error) {
	var head struct {
		Version int                 `json:"version"`
		Bans    map[string]int64    `json:"bans"`  // see Restrictions
		Mutes   map[string]int64    `json:"mutes"` // see Restrictions
		Slow    int64               `json:"slow_ms"`
		Deleted map[uint64]Stub     `json:"deleted"` // see Restrictions
		Edits   map[uint64][]uint64 `json:"edits"`   // see Restrictions
		Times   map[uint64]int64    `json:"edit_times"`
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
		Deleted: head.Deleted, Edits: head.Edits, EditTimes: head.Times,
	}
	if err := json.Unmarshal(b, &s.other); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot: %w", err)
	}
	for _, name := range known {
		delete(s.other, name)
	}
	return s, nil
}

// Witness is the stored position of the stream's end, on [SubjectWitness]. If the stream later ends
// before Last, it has lost its end. Then each room whose newest record is at or before Cut begins a
// new epoch with its next record.
type Witness struct {
	Created time.Time `json:"created"` // when the stream was created
	Last    uint64    `json:"last"`    // stream sequence of the newest record
	Cut     uint64    `json:"cut,omitempty"`
	Losses  uint64    `json:"losses,omitempty"` // how many losses have been noticed
}
