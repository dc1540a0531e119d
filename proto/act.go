package proto

// Act is a moderation command.
type Act string

// The acts. Each is committed to the room's log as an event of the kind beside it.
const (
	ActClose  Act = "close"  // -> [Closed]
	ActReopen Act = "reopen" // -> [Reopened]
	ActKick   Act = "kick"
	ActMute   Act = "mute"
	ActUnmute Act = "unmute"
	ActBan    Act = "ban"
	ActUnban  Act = "unban"
	ActDelete Act = "delete"
)

// Known reports whether a is one of the acts above.
func (a Act) Known() bool {
	switch a {
	case ActClose, ActReopen, ActKick, ActMute, ActUnmute, ActBan, ActUnban, ActDelete:
		return true
	}
	return false
}
