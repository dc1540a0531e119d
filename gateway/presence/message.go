package presence

import "roomcast/proto"

// Messages between gateways; see package proto.
type (
	Mark   = proto.PresenceMark
	Change = proto.PresenceChange
	Delta  = proto.PresenceDelta
	Share  = proto.PresenceShare
)

// maxEntries is the most people in one message. Even with ids and names of full length, the
// message is shorter than the 1 MB that NATS accepts.
const maxEntries = 500
