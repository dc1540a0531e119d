package proto

import "strconv"

// Gap tells a member that it does not receive some events.
type Gap struct {
	Room   Room      `json:"-"`
	From   uint64    `json:"from"` // the first missing seq
	To     uint64    `json:"to"`   // the last missing seq; 0 in a reset
	Reason GapReason `json:"reason"`

	// Set only in a reset:
	Epoch string `json:"epoch"` // epoch of the events that follow; "" if none follow
	Seq   uint64 `json:"seq"`   // all closes up to this seq were undone; 0 = none
}

// GapReason says why events are missing.
type GapReason string

// The reasons for a gap.
const (
	GapTrimmed GapReason = "trimmed" // a limit of the log has removed the events
	GapReset   GapReason = "reset"   // the room has begun a new epoch, or its log has lost the events
	GapDamaged GapReason = "damaged" // the log contains the events, but NATS cannot read them
)

// AppendJSON appends {"room":…,"gap":{…}}.
func (g Gap) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"room":`...), g.Room.String())
	b = g.AppendExtent(append(b, `,"gap":`...))
	return append(b, '}')
}

// AppendExtent appends {"from":…,"to":…,"reason":…}. For a reset it adds the epoch, and the seq
// if it is not 0.
func (g Gap) AppendExtent(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"from":`...), g.From, 10)
	b = strconv.AppendUint(append(b, `,"to":`...), g.To, 10)
	b = appendString(append(b, `,"reason":`...), string(g.Reason))
	if g.Reason == GapReset {
		b = appendString(append(b, `,"epoch":`...), g.Epoch)
		if g.Seq > 0 {
			b = strconv.AppendUint(append(b, `,"seq":`...), g.Seq, 10)
		}
	}
	return append(b, '}')
}
