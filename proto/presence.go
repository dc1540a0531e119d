package proto

import "fmt"

// HeaderPresence marks a message on room.eph.<p>.<g> as a [PresenceChange], with the value
// "1", or as a [PresenceShare], with PresenceIsShare. Without it the message is a signal.
const (
	HeaderPresence  = "Rc-Presence"
	PresenceIsShare = "share"
)

// PresenceMark names a state of the people whom one gateway has in a room. A later state has
// a larger mark.
type PresenceMark struct {
	Run     int64  // when the gateway's tracker of the room began, in Unix nanoseconds
	Version uint64 // changes since then
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

// PresenceChange is a gateway's message to the others about the people whom it has in a room. It
// has the newest changes, and asks for the people of the others if Ask is set.
type PresenceChange struct {
	Gateway string          `json:"gateway"`
	Mark    PresenceMark    `json:"mark"`             // the state after Deltas
	Deltas  []PresenceDelta `json:"deltas,omitempty"` // the changes from Version-1 to Version; none = only the mark is new

	// Ask makes each other gateway answer with its share, unless Known has its newest mark.
	Ask   bool                    `json:"ask,omitempty"`
	Known map[string]PresenceMark `json:"known,omitempty"` // by gateway
}

// PresenceDelta says that one person has joined or left.
type PresenceDelta struct {
	Identity
	Left LeaveReason `json:"left,omitempty"` // "" = the person has joined
}

// PresenceShare lists the people whom one gateway has in a room. A long list comes in
// several shares with the same mark.
type PresenceShare struct {
	Gateway string       `json:"gateway"`
	Mark    PresenceMark `json:"mark"`
	People  []Identity   `json:"people,omitempty"`
	Part    int          `json:"part,omitempty"` // 0, 1, …
	More    bool         `json:"more,omitempty"` // another part follows
}

// AskPeople makes each gateway publish its share of the named rooms, and of the rooms in the
// partitions where it has people.
type AskPeople struct {
	Partitions []int    `json:"partitions,omitempty"`
	Rooms      []string `json:"rooms,omitempty"`
}

// HeartbeatState is the first word of a [Heartbeat].
type HeartbeatState string

// The states.
const (
	GatewayHello HeartbeatState = "hello" // a gateway has started or returned, and asks the others for a heartbeat
	GatewayAlive HeartbeatState = "alive"
	GatewayBye   HeartbeatState = "bye"
)

// Heartbeat is the payload of room.gw.<id>: state, process and number.
type Heartbeat struct {
	State   HeartbeatState
	Process string // another one after each start
	Number  uint64 // 1, 2, 3, …: a gap shows that messages were lost
}

// String returns the payload.
func (h Heartbeat) String() string { return fmt.Sprintf("%s %s %d", h.State, h.Process, h.Number) }

// ParseHeartbeat reads the output of [Heartbeat.String].
func ParseHeartbeat(b []byte) (h Heartbeat, err error) {
	_, err = fmt.Sscanf(string(b), "%s %s %d", &h.State, &h.Process, &h.Number)
	return h, err
}
