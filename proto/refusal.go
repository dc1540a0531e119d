package proto

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Code is the machine-readable part of a refusal.
type Code string

// The codes. PROTOCOL.md says when a server sends each.
const (
	BadRequest   Code = "bad_request"    // the command is malformed; correct it
	BadRoom      Code = "bad_room"       // the room name is not allowed
	TooLarge     Code = "too_large"      // the message, the key or the name is too long
	NotJoined    Code = "not_joined"     // join the room first
	TooMany      Code = "too_many"       // a limit of rooms, members or connections is reached
	RateLimited  Code = "rate_limited"   // slow down; retry_ms says for how long
	RoomClosed   Code = "room_closed"    // the room has been closed; the message says why
	CodeBanned   Code = "banned"         // a moderator has banned this identity from the room
	CodeMuted    Code = "muted"          // a moderator has muted this identity in the room
	Unauthorized Code = "unauthorized"   // no token, or one that is not accepted
	Forbidden    Code = "forbidden"      // this identity may not do this
	NotFound     Code = "not_found"      // there is nothing here
	Unsupported  Code = "unsupported"    // this server does not do it
	Overloaded   Code = "overloaded"     // a queue is full; retry with the same key
	Unavailable  Code = "unavailable"    // the log cannot be reached now; retry with the same key
	Internal     Code = "internal"       // a defect of the server, which has logged it
	ClosedByWord Code = "closed_by_word" // the typed line was a close word; nothing was stored
)

// Refusal is an error for the client that sent a command. Its message is for people and
// says what to do next.
type Refusal struct {
	Code    Code
	Message string
	Retry   time.Duration // wait before another try of the command; 0 = another try will fail too
}

// Refuse makes a refusal with a formatted message.
func Refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// After returns the refusal with a wait before another try of the command.
func (r *Refusal) After(d time.Duration) *Refusal {
	return &Refusal{Code: r.Code, Message: r.Message, Retry: d}
}

// Error returns the code and the message.
func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Message }

// Temporary reports whether another try of the command may succeed.
func (r *Refusal) Temporary() bool { return r.Retry > 0 }

// AsRefusal returns the refusal in err's chain. It turns other errors into [Internal]
// without details, which belong in the log.
func AsRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return Refuse(Internal, "something went wrong on the server; it has been logged")
}

// UnmarshalJSON reads the output of [Refusal.AppendJSON].
func (r *Refusal) UnmarshalJSON(b []byte) error {
	var f struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
		RetryMS int64  `json:"retry_ms"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("read refusal: %w", err)
	}
	*r = Refusal{f.Code, f.Message, time.Duration(f.RetryMS) * time.Millisecond}
	return nil
}

// Status returns the HTTP status that carries the code.
func (c Code) Status() int {
	switch c {
	case BadRequest, BadRoom:
		return http.StatusBadRequest
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case RateLimited:
		return http.StatusTooManyRequests
	case RoomClosed, ClosedByWord, NotJoined:
		return http.StatusConflict
	case Unauthorized:
		return http.StatusUnauthorized
	case Forbidden, CodeBanned, CodeMuted:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case Unsupported:
		return http.StatusNotImplemented
	case TooMany, Overloaded, Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// AppendJSON appends {"code":…,"message":…}, with retry_ms unless Retry is 0.
func (r *Refusal) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"code":`...), string(r.Code))
	b = appendString(append(b, `,"message":`...), r.Message)
	if r.Retry > 0 {
		b = strconv.AppendInt(append(b, `,"retry_ms":`...), max(1, r.Retry.Milliseconds()), 10)
	}
	return append(b, '}')
}
