package proto

import (
	"encoding/json"
	"fmt"
	"time"
)

// Lost is a gateway's report on [SubjectLost] to the owner of a room. It says that the log lacks
// a record that members have received, or contains another record with the same seq. The owner
// compares the report with the log, begins a new epoch of the room, and answers with an empty
// message.
type Lost struct {
	Room   Room
	Epoch  string
	Seq    uint64
	Stream uint64    // stream sequence of the record; 0 = unknown
	At     time.Time // time of the record, in milliseconds; zero = unknown
}

// lostJSON is the JSON form of a [Lost].
type lostJSON struct {
	Room   string    `json:"room"`
	Epoch  string    `json:"epoch"`
	Seq    uint64    `json:"seq"`
	Stream uint64    `json:"stream,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// JSON returns the report in the form that [ParseLost] reads.
func (l Lost) JSON() []byte {
	b, err := json.Marshal(lostJSON{l.Room.String(), l.Epoch, l.Seq, l.Stream, l.At})
	if err != nil {
		panic(err) // these types and a time of our era always succeed
	}
	return b
}

// ParseLost reads a report.
func ParseLost(b []byte) (Lost, error) {
	var in lostJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return Lost{}, fmt.Errorf("parse report of a lost record: %w", err)
	}
	room, err := ParseRoom(in.Room)
	if err != nil {
		return Lost{}, fmt.Errorf("parse report of a lost record: %w", err)
	}
	if in.Epoch == "" || in.Seq == 0 {
		return Lost{}, fmt.Errorf("parse report of a lost record: it has no epoch or no seq")
	}
	return Lost{Room: room, Epoch: in.Epoch, Seq: in.Seq, Stream: in.Stream, At: in.At.UTC()}, nil
}
