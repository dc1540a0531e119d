package proto

// Act is a moderator's change of a room. The owner commits it to the log as an event.
type Act string

// The acts.
const (
	ActClose  Act = "close"
	ActReopen Act = "reopen"
)

// Acts is the table of the acts and of the events they become.
var Acts = []struct {
	Act  Act
	Kind EventKind
}{
	{ActClose, Closed},
	{ActReopen, Reopened},
}

// Known reports whether a is in the table.
func (a Act) Known() bool { return a.Kind() != Message }

// Kind returns the kind of the event that a becomes; [Message] if a is not in the table.
func (a Act) Kind() EventKind {
	for i := range Acts {
		if Acts[i].Act == a {
			return Acts[i].Kind
		}
	}
	return Message
}

// listActs returns the acts as a sentence lists them.
func listActs() string {
	names := make([]string, len(Acts))
	for i := range Acts {
		names[i] = string(Acts[i].Act)
	}
	return enumerate(names)
}
