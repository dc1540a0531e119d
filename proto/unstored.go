package proto

import "strconv"

// LeaveReason says why a member has left a room.
type LeaveReason string

// The reasons for a leave.
const (
	LeftClient LeaveReason = "client" // the client left or closed the connection
	LeftServer LeaveReason = "server" // the server closed the session
	LeftLost   LeaveReason = "lost"   // the connection broke, or its gateway died
)

// AppendSignal appends {"room":…,"signal":{"type":…,"from":…,"data":…}}. The parameter data is
// one JSON value, or empty.
func AppendSignal(b []byte, room Room, kind string, from Identity, data []byte) []byte {
	b = appendString(append(b, `{"room":`...), room.String())
	b = appendString(append(b, `,"signal":{"type":`...), kind)
	b = from.AppendJSON(append(b, `,"from":`...))
	if len(data) > 0 {
		b = append(b, `,"data":`...)
		b = append(b, data...)
	}
	return append(b, "}}"...)
}

// AppendJoined appends {"room":…,"joined":{"id":…,"name":…,"count":n}}. The parameter count is the
// number of people in the room, as the sending gateway knows it. If there are more than [MaxListed]
// people, the caller passes no identity.
func AppendJoined(b []byte, room Room, who Identity, count int) []byte {
	return appendPresence(b, room, "joined", who, count, "")
}

// AppendLeft appends {"room":…,"left":{"id":…,"name":…,"reason":…,"count":n}}.
func AppendLeft(b []byte, room Room, who Identity, count int, reason LeaveReason) []byte {
	return appendPresence(b, room, "left", who, count, reason)
}

func appendPresence(b []byte, room Room, verb string, who Identity, count int, reason LeaveReason) []byte {
	b = appendString(append(b, `{"room":`...), room.String())
	return appendPerson(append(b, ','), verb, who, count, reason)
}

// appendPerson appends "<verb>":{…} and one more closing brace, for the object around it.
func appendPerson(b []byte, verb string, who Identity, count int, reason LeaveReason) []byte {
	b = append(b, '"')
	b = append(b, verb...)
	b = append(b, `":{`...)
	if who.ID != "" {
		b = appendString(append(b, `"id":`...), who.ID)
		if who.Name != "" {
			b = appendString(append(b, `,"name":`...), who.Name)
		}
		b = append(b, ',')
	}
	if reason != "" {
		b = appendString(append(b, `"reason":`...), string(reason))
		b = append(b, ',')
	}
	b = strconv.AppendInt(append(b, `"count":`...), int64(count), 10)
	return append(b, "}}"...)
}
