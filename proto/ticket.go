package proto

import (
	"strings"
	"time"
)

// UseTicket is a request on [SubjectTicket]: a gateway asks to use a ticket. [Used] is the
// answer. A ticket can be used once.
type UseTicket struct {
	Number string `json:"number"` // random, of the ticket: letters and digits
}

// Used is the answer to [UseTicket].
type Used struct {
	First bool   `json:"first,omitempty"` // nobody has used the ticket before
	Error string `json:"error,omitempty"` // why roomsvc does not know; "" = it knows
}

// MaxTicket is the longest life of a ticket. The mark of a used ticket, of TicketMark, is longer.
const (
	MaxTicket  = time.Minute
	TicketMark = 3 * MaxTicket
)

// Valid reports whether the number has the right form.
func (u *UseTicket) Valid() bool {
	return len(u.Number) >= 16 && len(u.Number) <= 64 && !strings.ContainsFunc(u.Number, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}
