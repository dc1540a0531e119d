package proto

import "fmt"

// HeaderPresence is a header of messages on room.eph.<p>.<g>. The value "1" marks a
// [PresenceChange], and PresenceIsShare marks a [PresenceShare]. A message without this header
// is a signal.
const (
	HeaderPresence  = "Rc-Presence"
	PresenceIsShare = "share"
)

// PresenceMark identifies a state of a gateway's list of the people that it has in a room. A later
// state has a greater mark.
type PresenceMark struct {
	Run     int64  // when the gateway began to track the room, in Unix nanoseconds
	Version uint64 // number of changes since then
}

// Before reports whether m is the mark of an earlier state than o.
func (m PresenceMark) Before(o PresenceMark) bool {
	return m.Run < o.Run || m.Run == o.Run && m.Version < o.Version
}

// MarshalText implements [encoding.TextMarshaler].
func (m PresenceMark) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d.%d", m.Run, m.Version), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *PresenceMark) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%d.%d", &m.Run, &m.Version)
	return err
}

// PresenceChange is a message of a gateway to the other gateways, about its list of people in a
// room. It contains the newest changes. If Ask is set, it also asks the other gateways for their
// people.
type PresenceChange struct {
	Gateway string          `json:"gateway"`
	Mark    PresenceMark    `json:"mark"`             // the state after Deltas
	Deltas  []PresenceDelta `json:"deltas,omitempty"` // the changes since Version-1; if there are none, only the mark has changed

	// Ask requests that each other gateway answers with its share. A gateway does not answer if
	// Known contains its newest mark.
	Ask   bool                    `json:"ask,omitempty"`
	Known map[string]PresenceMark `json:"known,omitempty"` // the marks that the asking gateway knows, by gateway
}

// PresenceDelta says that one person has joined or left, or has another name than before.
type PresenceDelta struct {
	Identity
	Left LeaveReason `json:"left,omitempty"` // "" = the person has joined
}

// PresenceShare lists the people who have sessions in a room on one gateway. If the list is
// long, it is divided into several shares with the same mark.
type PresenceShare struct {
	Gateway string       `json:"gateway"`
	Mark    PresenceMark `json:"mark"`
	People  []Identity   `json:"people,omitempty"`
	Part    int          `json:"part,omitempty"` // number of this part: 0, 1, …
	More    bool         `json:"more,omitempty"` // another part follows
}

// AskPeople requests that each gateway publishes its share of the named rooms. The request also
// covers all rooms of the given partitions in which the gateway has people.
type AskPeople struct {
	Partitions []int    `json:"partitions,omitempty"`
	Rooms      []string `json:"rooms,omitempty"`
}

// HeartbeatState is the first word of a [Heartbeat].
type HeartbeatState string

// The states of a heartbeat.
const (
	GatewayHello HeartbeatState = "hello" // the gateway has started or returned, and asks the others for a heartbeat
	GatewayAlive HeartbeatState = "alive"
	GatewayBye   HeartbeatState = "bye"
)

// Heartbeat is the payload of a message on room.gw.<id>. Its text has three words: the state,
// the process and the number.
type Heartbeat struct {
	State   HeartbeatState
	Process string // an id that is different after each start of the gateway
	Number  uint64 // 1, 2, 3, …; if a number is missing, a message was lost
}

// String returns the text of the heartbeat.
func (h Heartbeat) String() string { return fmt.Sprintf("%s %s %d", h.State, h.Process, h.Number) }

// ParseHeartbeat reads a text that [Heartbeat.String] has returned.
func ParseHeartbeat(b []byte) (h Heartbeat, err error) {
	_, err = fmt.Sscanf(string(b), "%s %s %d", &h.State, &h.Process, &h.Number)
	return h, err
}
