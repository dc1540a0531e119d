package proto

import (
	"encoding/json"
	"fmt"
	"time"
)

// SnapshotVersion is the version of [Snapshot] that this program writes.
const SnapshotVersion = 1

// Snapshot is what must be known of a room beyond its log, on room.state.<p>.<g>. The
// owner commits an act in the log first, then the snapshot, and acknowledges the act
// after both. A snapshot never holds what somebody said.
type Snapshot struct {
	Epoch  string    `json:"epoch"`            // that Seq belongs to
	Seq    uint64    `json:"seq"`              // of the newest act that the snapshot covers
	Closed bool      `json:"closed,omitempty"` // survives a new epoch
	Why    string    `json:"why,omitempty"`    // the room was closed
	At     time.Time `json:"at"`               // of that act

	// other holds the fields that a newer version wrote, which this one keeps.
	other map[string]json.RawMessage
}

// Behind reports whether the snapshot covers an act that came after r, a record of the room.
func (s *Snapshot) Behind(r *Record) bool {
	if s.Epoch == r.State.Epoch {
		return s.Seq > r.Seq
	}
	return s.At.After(r.State.At)
}

// Keep takes over from older what a newer version wrote there.
func (s *Snapshot) Keep(older *Snapshot) { s.other = older.other }

// known are the fields that this version writes itself.
var known = [...]string{"version", "epoch", "seq", "closed", "why", "at"}

// AppendJSON appends the snapshot as it is stored.
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
	out, err := json.Marshal(fields)
	if err != nil {
		return b, fmt.Errorf("write snapshot: %w", err)
	}
	return append(b, out...), nil
}

// ParseSnapshot reads what [Snapshot.AppendJSON] wrote. It keeps the fields that it
// does not know, and returns [ErrNewerSchema] for a newer version.
func ParseSnapshot(b []byte) (Snapshot, error) {
	var head struct {
		Version int `json:"version"`
		Snapshot
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot: %w", err)
	}
	if head.Version > SnapshotVersion {
		return Snapshot{}, fmt.Errorf("parse snapshot: %w", ErrNewerSchema)
	}
	s := head.Snapshot
	if err := json.Unmarshal(b, &s.other); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot: %w", err)
	}
	for _, name := range known {
		delete(s.other, name)
	}
	return s, nil
}

// Witness says how far the log has come, on [SubjectWitness]. A log that later ends
// before Last has lost its end; then the rooms whose newest record stands at or before
// Cut begin a new epoch with their next record.
type Witness struct {
	Created time.Time `json:"created"` // the stream
	Last    uint64    `json:"last"`    // stream sequence
	Cut     uint64    `json:"cut,omitempty"`
	Losses  uint64    `json:"losses,omitempty"` // that were noticed so far
}
