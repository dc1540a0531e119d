package proto

import (
	"strings"
	"time"
)

// UseTicket is a gateway's request on [SubjectTicket] to mark a ticket as used. [Used] is the
// answer. Each ticket can be used once.
type UseTicket struct {
	Number string `json:"number"` // random number of the ticket, made of letters and digits
}

// Used is the answer to [UseTicket].
type Used struct {
	First bool   `json:"first,omitempty"` // nobody has used the ticket before
	Error string `json:"error,omitempty"` // why roomsvc cannot answer; "" = it has answered
}

// MaxTicket is the longest life of a ticket. TicketMark is how long a used ticket stays marked. The
// ticket expires before its mark does. So no ticket can be used a second time.
const (
	MaxTicket  = time.Minute
	TicketMark = 3 * MaxTicket
)

// Valid reports whether the number of the ticket has the right form.
func (u *UseTicket) Valid() bool {
	return len(u.Number) >= 16 && len(u.Number) <= 64 && !strings.ContainsFunc(u.Number, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}
