package proto

// CloseCode is the status of a WebSocket close frame. After 4000-4099 a client should reconnect,
// after 4100-4199 it should not. The range is enough for a client.
type CloseCode uint16

// The codes that a client can receive; [CloseCodes] says what each means. RFC 6455 defines
// those below 4000.
const (
	CloseNormal      CloseCode = 1000
	CloseGoingAway   CloseCode = 1001
	CloseProtocol    CloseCode = 1002
	CloseUnsupported CloseCode = 1003
	CloseInvalidData CloseCode = 1007
	ClosePolicy      CloseCode = 1008
	CloseTooBig      CloseCode = 1009
	CloseInternal    CloseCode = 1011

	CloseSlow         CloseCode = 4000
	CloseResync       CloseCode = 4001
	CloseShed         CloseCode = 4002
	CloseTokenExpired CloseCode = 4003
	CloseUnavailable  CloseCode = 4004
	CloseNoPong       CloseCode = 4005

	CloseRoomClosed CloseCode = 4100
	CloseKicked     CloseCode = 4101
	CloseBanned     CloseCode = 4102
	CloseBadToken   CloseCode = 4103
	CloseFlood      CloseCode = 4105
	CloseForbidden  CloseCode = 4106
	CloseNoToken    CloseCode = 4107
)

// CloseMeaning is one row of the close-code table.
type CloseMeaning struct {
	Code      CloseCode
	Name      string // in logs and metrics
	Meaning   string // for people; the reason in a close frame
	Reconnect bool   // the client should reconnect
}

// CloseCodes is the table of close codes, in their order.
var CloseCodes = []CloseMeaning{
	{CloseNormal, "normal", "closed by a close word, or as the client asked", false},
	{CloseGoingAway, "going_away", "this gateway is stopping; reconnect", true},
	{CloseProtocol, "protocol", "a frame broke RFC 6455", false},
	{CloseUnsupported, "unsupported", "this session does not accept this kind of data", false},
	{CloseInvalidData, "invalid_data", "a text message was not valid UTF-8", false},
	{ClosePolicy, "policy", "a rule was broken; the reason says which", false},
	{CloseTooBig, "too_big", "the message exceeds the limit of this server", false},
	{CloseInternal, "internal", "a defect of the server; it has been logged", true},
	{CloseSlow, "slow", "the client read too slowly; reconnect with since to receive the rest", true},
	{CloseResync, "resync", "the server lost track of the room; reconnect with since", true},
	{CloseShed, "shed", "the server is overloaded; reconnect later", true},
	{CloseTokenExpired, "token_expired", "the token has expired; reconnect with a fresh one", true},
	{CloseUnavailable, "unavailable", "a message could not be stored; reconnect and send it again", true},
	{CloseNoPong, "no_pong", "the client did not answer pings", true},
	{CloseRoomClosed, "room_closed", "the room has been closed", false},
	{CloseKicked, "kicked", "a moderator removed you from the room", false},
	{CloseBanned, "banned", "a moderator banned you from the room", false},
	{CloseBadToken, "bad_token", "the token is not accepted", false},
	{CloseFlood, "flood", "the client kept sending faster than allowed", false},
	{CloseForbidden, "forbidden", "you do not have the right to be in this room", false},
	{CloseNoToken, "no_token", "a token is needed here", false},
}

// String returns the code's name in the table, or "unknown".
func (c CloseCode) String() string {
	for _, m := range CloseCodes {
		if m.Code == c {
			return m.Name
		}
	}
	return "unknown"
}

// Meaning returns the sentence of the table, or "" for other codes.
func (c CloseCode) Meaning() string {
	for _, m := range CloseCodes {
		if m.Code == c {
			return m.Meaning
		}
	}
	return ""
}

// Reconnect reports whether a client that was closed with c should reconnect. The range
// decides for codes that are not in the table.
func (c CloseCode) Reconnect() bool {
	for _, m := range CloseCodes {
		if m.Code == c {
			return m.Reconnect
		}
	}
	return c < 4100 || c > 4199
}
