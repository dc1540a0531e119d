package proto

import (
	"encoding/json"
	"fmt"
)

// MaxStates is the largest number of rooms in one [AskStates].
const MaxStates = 64

// AskStates is a gateway's request on [AskStatesSubject] for the states of rooms without records. All
// of these rooms belong to the partition of the subject. Only the partition's owner answers, with
// [States].
type AskStates struct {
	Rooms []string `json:"rooms"`
}

// ParseAskStates returns the rooms of a request. It returns an error if one of them does not belong
// to the partition.
func ParseAskStates(b []byte, partition int) ([]Room, error) {
	var a AskStates
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("parse request for states: %w", err)
	}
	if n := len(a.Rooms); n == 0 || n > MaxStates {
		return nil, fmt.Errorf("parse request for states: it names %d rooms, not 1 to %d", n, MaxStates)
	}
	rooms := make([]Room, len(a.Rooms))
	for i, name := range a.Rooms {
		room, err := ParseRoom(name)
		if err != nil {
			return nil, fmt.Errorf("parse request for states: %w", err)
		}
		if room.Partition() != partition {
			return nil, fmt.Errorf("parse request for states: room %s is not in partition %d", room, partition)
		}
		rooms[i] = room
	}
	return rooms, nil
}

// States is the answer to [AskStates]. It maps the names of rooms to their states. It lacks rooms
// whose state the owner does not know now, and rooms that did not fit into the message. The gateway
// asks for them again.
type States map[string]OwnerState

// OwnerState is the state of a room after its last committed record, as the owner knows it.
type OwnerState struct {
	Seq      uint64          `json:"seq"`      // seq of that record; 0 = the room has no record, as far as the owner knows
	Snapshot json.RawMessage `json:"snapshot"` // a [Snapshot], see [ParseSnapshot]
}
