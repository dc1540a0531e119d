package client

import (
	"encoding/json"
	"time"

	"roomcast/proto"
)

// Notice is one thing that has happened. Exactly one of the pointers is set. The events of a room
// come in the order of their seqs, each once. If events are missing, a Gap comes in their place.
type Notice struct {
	Room     proto.Room // the room of the notice; zero with Hello and Link
	Event    *proto.Event
	Gap      *proto.Gap
	Signal   *Signal
	Presence *Presence
	Refused  *proto.Refusal // the membership has ended for this reason; a kick has the code "kicked"
	Hello    *Hello         // a session has begun
	Link     *Link          // a connection has ended
}

// Hello is the first frame of a session.
type Hello = proto.Hello

// Link says why a connection has ended or could not be opened, and when the client tries again.
type Link struct {
	Err   error
	Again time.Duration
}

// Signal is a notification of another member, which is not stored.
type Signal struct {
	Type string
	From proto.Identity
	Data json.RawMessage // any JSON; nil = the signal has no data
}

// Presence announces that a person has joined or left a room. In rooms with more than 200 people it
// does not name the person, and Who is the zero value.
type Presence struct {
	Who    proto.Identity
	Count  int               // number of people in the room, as known to the gateway of this session
	Left   bool              // the person has left; otherwise the person has joined
	Reason proto.LeaveReason // why the person has left
}
