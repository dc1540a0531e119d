package client

import (
	"encoding/json"
	"time"

	"roomcast/proto"
)

// Notice is one thing that happened. Exactly one of the pointers is set. The events of a
// room come in the order of their seq, each once; a Gap announces each hole.
type Notice struct {
	Room     proto.Room // zero for Hello and Link
	Event    *proto.Event
	Gap      *proto.Gap
	Signal   *Signal
	Presence *Presence
	Refused  *proto.Refusal // the client has left the room, for this reason; a kick has the code "kicked"
	Hello    *Hello         // a session has begun
	Link     *Link          // a connection has ended
}

// Hello is the first frame of a session.
type Hello = proto.Hello

// Link says why a connection has ended or failed, and when the next try follows.
type Link struct {
	Err   error
	Again time.Duration
}

// Signal is a notification of another member, which is not stored.
type Signal struct {
	Type string
	From proto.Identity
	Data json.RawMessage // nil if none
}

// Presence announces that a person has joined or left. In large rooms Who is zero.
type Presence struct {
	Who    proto.Identity
	Count  int               // people in the room, as far as the sending gateway knows
	Left   bool              // the person has left; otherwise the person has joined
	Reason proto.LeaveReason // of a leave
}
