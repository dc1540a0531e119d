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
	Refused  *proto.Refusal // the client is in the room no longer: it was closed, or could not be joined again; a kick has the code "kicked"
	Hello    *Hello         // a session has begun
	Link     *Link          // a connection has ended
}

// Hello is how the server greets a session.
type Hello = proto.Hello

// Link says why a connection ended, or could not be made, and when the next try is.
type Link struct {
	Err   error
	Again time.Duration
}

// Signal is something that a member told the others and that is not stored.
type Signal struct {
	Type string
	From proto.Identity
	Data json.RawMessage // nil if none
}

// Presence announces that a member has come or gone. In large rooms Who is zero.
type Presence struct {
	Who    proto.Identity
	Count  int               // of members, as far as the sending gateway knows
	Left   bool              // the member has gone; otherwise it has come
	Reason proto.LeaveReason // for which it has gone
}
