package presence

import "roomcast/proto"

// The messages between gateways; see package proto.
type (
	Mark   = proto.PresenceMark
	Change = proto.PresenceChange
	Delta  = proto.PresenceDelta
	Share  = proto.PresenceShare
)

// maxEntries is the number of people in one message. With ids and names of full length it
// stays below the 1 MB that NATS accepts.
const maxEntries = 500
