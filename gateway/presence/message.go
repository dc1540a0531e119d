package presence

import (
	"fmt"

	"roomcast/proto"
)

// Mark names a state of the people whom one gateway has in a room. A later state has a
// larger mark.
type Mark struct {
	Run     int64  // when the gateway's tracker of the room began, in Unix nanoseconds
	Version uint64 // changes since then
}

// Before reports whether m is the mark of an earlier state than o.
func (m Mark) Before(o Mark) bool {
	return m.Run < o.Run || m.Run == o.Run && m.Version < o.Version
}

// MarshalText implements [encoding.TextMarshaler].
func (m Mark) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d.%d", m.Run, m.Version), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *Mark) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%d.%d", &m.Run, &m.Version)
	return err
}

// Change tells the other gateways what has changed among the people of a room on one
// gateway, and asks for theirs if Ask is set.
type Change struct {
	Gateway string  `json:"gateway"`
	Mark    Mark    `json:"mark"`             // the state after Deltas
	Deltas  []Delta `json:"deltas,omitempty"` // from Version-1 to Version; none = only the mark is told

	// Ask has each other gateway answer with its share, unless Known has its newest mark.
	Ask   bool            `json:"ask,omitempty"`
	Known map[string]Mark `json:"known,omitempty"` // by gateway
}

// Delta is the coming or the going of one person.
type Delta struct {
	proto.Identity
	Left proto.LeaveReason `json:"left,omitempty"` // "" = the person has come
}

// Share lists the people whom one gateway has in a room. A long list comes in several
// shares with the same mark.
type Share struct {
	Gateway string           `json:"gateway"`
	Mark    Mark             `json:"mark"`
	People  []proto.Identity `json:"people,omitempty"`
	Part    int              `json:"part,omitempty"` // 0, 1, …
	More    bool             `json:"more,omitempty"` // another part follows
}

// maxEntries is the number of people in one message. With ids and names of full length it
// stays below the 1 MB that NATS accepts.
const maxEntries = 500
