package proto

import (
	"strconv"
	"strings"
	"time"
)

// AppendEventID appends the id of an event for a reader of Server-Sent Events: <epoch>-<seq>-<at
// in ms>. If the time is unknown, it omits the last part. The seq is 0 for the position before
// the first event of a room.
func AppendEventID(b []byte, epoch string, seq uint64, at time.Time) []byte {
	b = append(append(b, epoch...), '-')
	b = strconv.AppendUint(b, seq, 10)
	if seq > 0 && !at.IsZero() {
		b = append(b, '-')
		b = strconv.AppendInt(b, at.UnixMilli(), 10)
	}
	return b
}

// ParseEventID returns the position after the event with the given id. Its error is always a
// [*Refusal].
func ParseEventID(id string) (f From, err error) {
	epoch, rest, found := strings.Cut(id, "-")
	seq, ms, timed := strings.Cut(rest, "-")
	f.Since, err = strconv.ParseUint(seq, 10, 53)
	if f.HasSince = true; err == nil && timed {
		var n int64
		n, err = strconv.ParseInt(ms, 10, 53)
		f.At = time.UnixMilli(n).UTC()
	}
	if err == nil && epoch != "" {
		err = f.text("epoch", epoch)
	}
	if err != nil || !found {
		return From{}, Refuse(BadRequest, "the position %s is not <epoch>-<seq>-<milliseconds>", clip(id))
	}
	return f, nil
}

// AppendClosing appends {"code":…,"reason":…}. This tells a reader of Server-Sent Events why its
// stream ends. The codes are the close codes of WebSocket.
func AppendClosing(b []byte, code CloseCode, reason string) []byte {
	b = strconv.AppendUint(append(b, `{"code":`...), uint64(code), 10)
	b = append(b, `,"reason":`...)
	return append(appendString(b, reason), '}')
}
