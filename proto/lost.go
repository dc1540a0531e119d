package proto

import (
	"encoding/json"
	"fmt"
	"time"
)

// Lost is a gateway's report to the owner of a room, on [SubjectLost]. It says that the log does
// not hold a record that members have received, or holds another one in its place. The owner
// compares the report with the log, begins a new epoch of the room, and answers with an empty
// message.
type Lost struct {
	Room   Room
	Epoch  string
	Seq    uint64
	Stream uint64    // stream sequence of the record; 0 = not known
	At     time.Time // of the record, in milliseconds; zero = not known
}

// lostJSON is [Lost] on the wire.
type lostJSON struct {
	Room   string    `json:"room"`
	Epoch  string    `json:"epoch"`
	Seq    uint64    `json:"seq"`
	Stream uint64    `json:"stream,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// JSON returns what [ParseLost] reads.
func (l Lost) JSON() []byte {
	b, err := json.Marshal(lostJSON{l.Room.String(), l.Epoch, l.Seq, l.Stream, l.At})
	if err != nil {
		panic(err) // strings, numbers and a time of this era cannot fail
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
