package proto

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Code is the kind of a refusal. By it, programs decide what to do.
type Code string

// The codes. PROTOCOL.md describes when the server sends each of them.
const (
	BadRequest   Code = "bad_request"    // the command is malformed; correct it
	BadRoom      Code = "bad_room"       // the room name is not allowed
	TooLarge     Code = "too_large"      // the message, the key or the name is too long
	NotJoined    Code = "not_joined"     // join the room first
	TooMany      Code = "too_many"       // a limit of rooms, members or connections is reached
	RateLimited  Code = "rate_limited"   // the client is too fast; retry_ms says how long to wait
	RoomClosed   Code = "room_closed"    // the room has been closed; the message says why
	CodeBanned   Code = "banned"         // a moderator has banned this identity from the room
	CodeMuted    Code = "muted"          // a moderator has muted this identity in the room
	Unauthorized Code = "unauthorized"   // the client has no token, or one that is not accepted
	Forbidden    Code = "forbidden"      // the client may not do this
	NotFound     Code = "not_found"      // there is nothing here
	Unsupported  Code = "unsupported"    // this server does not offer this
	Overloaded   Code = "overloaded"     // a queue is full; send again with the same key
	Unavailable  Code = "unavailable"    // the log cannot be reached now; send again with the same key
	Internal     Code = "internal"       // a defect of the server, which has logged it
	ClosedByWord Code = "closed_by_word" // the typed line was a close word; nothing was stored
)

// Codes lists all codes.
var Codes = []Code{
	BadRequest, BadRoom, TooLarge, NotJoined, TooMany, RateLimited, RoomClosed, CodeBanned, CodeMuted, Unauthorized,
	Forbidden, NotFound, Unsupported, Overloaded, Unavailable, Internal, ClosedByWord,
}

// Refusal is an error for a client whose command was not executed. Its message tells people what
// to do next.
type Refusal struct {
	Code    Code
	Message string
	Retry   time.Duration // how long to wait before trying again; 0 = trying again does not help
}

// Refuse returns a refusal with a formatted message.
func Refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Lacks returns the refusal for a sender without the right in a room.
func Lacks(right Right) *Refusal {
	return Refuse(Forbidden, "you do not have the right %s in this room; connect with a credential that gives it", right)
}

// After returns a copy of the refusal that asks the client to try again after d.
func (r *Refusal) After(d time.Duration) *Refusal {
	return &Refusal{Code: r.Code, Message: r.Message, Retry: d}
}

// Error returns the code and the message.
func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Message }

// Temporary reports whether trying again may help.
func (r *Refusal) Temporary() bool { return r.Retry > 0 }

// AsRefusal returns the refusal that err wraps. For any other error it returns a refusal with
// the code [Internal] and without details, because details belong in the log.
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

// Status returns the HTTP status for a refusal with this code.
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

// AppendJSON appends {"code":…,"message":…}. If Retry is not 0, it adds retry_ms.
func (r *Refusal) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"code":`...), string(r.Code))
	b = appendString(append(b, `,"message":`...), r.Message)
	if r.Retry > 0 {
		b = strconv.AppendInt(append(b, `,"retry_ms":`...), max(1, r.Retry.Milliseconds()), 10)
	}
	return append(b, '}')
}
