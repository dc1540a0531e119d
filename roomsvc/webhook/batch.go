package webhook

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"
)

// Event is one event of a post.
type Event struct {
	ID   string          `json:"id"`   // the same each time the event is posted
	Type string          `json:"type"` // "message", or the kind of another event of the log or about people
	Data json.RawMessage `json:"data"`
}

// Batch is the body of a post.
type Batch struct {
	Events []Event `json:"events"`
	Missed uint64  `json:"missed,omitempty"` // earlier events that were dropped because the receiver was away for too long
}

// ID returns the id of the post with the events from first to last (stream sequences). The id
// contains the time at which the stream was made, so that the posts of a later stream have other
// ids. A retry has the same id as the failed post.
func ID(created time.Time, first, last uint64) string {
	return EventID(created, first) + "-" + strconv.FormatUint(last, 10)
}

// EventID returns the id of the event with the given stream sequence, in the stream that was made
// at the given time.
func EventID(created time.Time, seq uint64) string {
	return "evt_" + strconv.FormatInt(created.UnixMilli(), 36) + "-" + strconv.FormatUint(seq, 10)
}

// The pauses between attempts.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// Pause returns how long to wait after the given number of failures in a row. It begins with one
// second and doubles up to a minute. Pause subtracts a random part of up to a fifth. So not all
// receivers at one address get their posts at the same time.
func Pause(failures int) time.Duration {
	pause := maxPause
	if failures < 8 {
		pause = min(maxPause, firstPause<<max(0, failures-1))
	}
	return pause - rand.N(pause/5)
}
