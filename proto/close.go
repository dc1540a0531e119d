package proto

// CloseCode is the status of a WebSocket close frame. 4000-4099 mean "reconnect",
// 4100-4199 mean "do not": a client may act on the range alone.
type CloseCode uint16

// The codes a client can see. Those below 4000 are RFC 6455's.
const (
	CloseNormal      CloseCode = 1000 // closed by a close word, or as the client asked
	CloseGoingAway   CloseCode = 1001 // the gateway stops; reconnect elsewhere
	CloseProtocol    CloseCode = 1002 // the client broke RFC 6455
	CloseUnsupported CloseCode = 1003 // a kind of data this session does not take
	CloseInvalidData CloseCode = 1007 // text that is not UTF-8
	ClosePolicy      CloseCode = 1008 // a rule was broken
	CloseTooBig      CloseCode = 1009 // the message is longer than --max-message
	CloseInternal    CloseCode = 1011 // a defect of ours

	CloseSlow         CloseCode = 4000 // did not read what it was sent; reconnect with since
	CloseResync       CloseCode = 4001 // the room cannot be followed without a hole; reconnect with since
	CloseShed         CloseCode = 4002 // too much load; reconnect later
	CloseTokenExpired CloseCode = 4003 // reconnect with a fresh token
	CloseUnavailable  CloseCode = 4004 // what was sent could not be stored; reconnect and send it again
	CloseNoPong       CloseCode = 4005 // did not answer pings

	CloseRoomClosed CloseCode = 4100 // the room has been closed
	CloseKicked     CloseCode = 4101 // removed by a moderator
	CloseBanned     CloseCode = 4102 // banned by a moderator
	CloseBadToken   CloseCode = 4103 // the token is not accepted
	CloseFlood      CloseCode = 4105 // kept sending faster than allowed
)

// CloseMeaning is one row of the close-code table.
type CloseMeaning struct {
	Code      CloseCode
	Name      string // one word or two, the same in logs and metrics
	Meaning   string // a sentence for people
	Reconnect bool   // whether trying again makes sense
}

// CloseCodes is the whole table, in the order of the codes.
var CloseCodes = []CloseMeaning{
	{CloseNormal, "normal", "closed by a close word, or as the client asked", false},
	{CloseGoingAway, "going_away", "this gateway stops; reconnect, another one or the next one goes on", true},
	{CloseProtocol, "protocol", "a frame broke RFC 6455", false},
	{CloseUnsupported, "unsupported", "this kind of data is not taken here", false},
	{CloseInvalidData, "invalid_data", "a text message was not valid UTF-8", false},
	{ClosePolicy, "policy", "a rule was broken; the reason says which", false},
	{CloseTooBig, "too_big", "the message is larger than this server takes", false},
	{CloseInternal, "internal", "a defect of the server; it has been logged", true},
	{CloseSlow, "slow", "messages were not read fast enough; reconnect with since to get the rest", true},
	{CloseResync, "resync", "the room could not be followed without a hole; reconnect with since", true},
	{CloseShed, "shed", "the server has too much to do; reconnect later", true},
	{CloseTokenExpired, "token_expired", "the token has run out; reconnect with a fresh one", true},
	{CloseUnavailable, "unavailable", "what was sent could not be stored; reconnect and send it again", true},
	{CloseNoPong, "no_pong", "pings were not answered", true},
	{CloseRoomClosed, "room_closed", "the room has been closed", false},
	{CloseKicked, "kicked", "removed from the room by a moderator", false},
	{CloseBanned, "banned", "banned from the room by a moderator", false},
	{CloseBadToken, "bad_token", "the token is not accepted", false},
	{CloseFlood, "flood", "kept sending faster than allowed", false},
}

// String returns the code's name in the table, "unknown" for others.
func (c CloseCode) String() string {
	for _, m := range CloseCodes {
		if m.Code == c {
			return m.Name
		}
	}
	return "unknown"
}

// Meaning returns the sentence of the table that goes into a close frame's reason.
func (c CloseCode) Meaning() string {
	for _, m := range CloseCodes {
		if m.Code == c {
			return m.Meaning
		}
	}
	return ""
}

// Reconnect reports whether a client closed with c should come back by itself.
// Codes that are not in the table: yes, unless they say "do not" by their range.
func (c CloseCode) Reconnect() bool {
	for _, m := range CloseCodes {
		if m.Code == c {
			return m.Reconnect
		}
	}
	return c < 4100 || c > 4199
}
