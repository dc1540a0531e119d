package proto

// CloseCode is the status in a WebSocket close frame. A client should reconnect after a code
// from 4000 to 4099, and should not after a code from 4100 to 4199. So a client can handle a
// code that it does not know.
type CloseCode uint16

// The codes that a client can receive. The table [CloseCodes] describes them. RFC 6455 defines
// the codes below 4000.
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

// CloseMeaning is the description of a code in the table [CloseCodes].
type CloseMeaning struct {
	Code      CloseCode
	Name      string // name in logs and metrics
	Meaning   string // sentence for people, which is the default reason in a close frame
	Reconnect bool   // whether the client should reconnect
}

// CloseCodes describes all close codes, ordered by code.
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
	{CloseTokenExpired, "token_expired", "the token or the permission of this session has expired; reconnect with a fresh one", true},
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

// String returns the name of the code, or "unknown" if the code is not in the table.
func (c CloseCode) String() string {
	if m := c.row(); m != nil {
		return m.Name
	}
	return "unknown"
}

// Meaning returns the sentence that describes the code, or "" if the code is not in the table.
func (c CloseCode) Meaning() string {
	if m := c.row(); m != nil {
		return m.Meaning
	}
	return ""
}

// Reconnect reports whether a client that receives the code should reconnect. If the code is not
// in the table, its range decides.
func (c CloseCode) Reconnect() bool {
	if m := c.row(); m != nil {
		return m.Reconnect
	}
	return c < 4100 || c > 4199
}

// row returns the code's row of the table, or nil.
func (c CloseCode) row() *CloseMeaning {
	for i := range CloseCodes {
		if CloseCodes[i].Code == c {
			return &CloseCodes[i]
		}
	}
	return nil
}
