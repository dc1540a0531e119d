package webhook

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"
)

// Event is one event of a post.
type Event struct {
	ID   string          `json:"id"`   // the same whenever the event is posted
	Type string          `json:"type"` // "message", the kind of another event of the log, or that of an event about people
	Data json.RawMessage `json:"data"`
}

// Batch is the body of a post.
type Batch struct {
	Events []Event `json:"events"`
	Missed uint64  `json:"missed,omitempty"` // events before these that were dropped because the receiver was away for too long
}

// ID returns the id of the post with the events from first to last of a stream that was
// created at a time. A retry has the same id, and a later stream gives others.
func ID(created time.Time, first, last uint64) string {
	return EventID(created, first) + "-" + strconv.FormatUint(last, 10)
}

// EventID returns the id of one event of that stream.
func EventID(created time.Time, seq uint64) string {
	return "evt_" + strconv.FormatInt(created.UnixMilli(), 36) + "-" + strconv.FormatUint(seq, 10)
}

// The pauses between attempts.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// Pause returns how long to wait after a post has failed this number of times: one second,
// doubled each time up to a minute, and up to a fifth less, so that many receivers behind
// one address are not asked at once.
func Pause(failures int) time.Duration {
	pause := maxPause
	if failures < 8 {
		pause = min(maxPause, firstPause<<max(0, failures-1))
	}
	return pause - rand.N(pause/5)
}
