package proto

import (
	"strconv"
	"time"
)

// From is the place in a room's log where a replay begins. At most one of Since, Last and
// After is set. The zero From replays nothing.
type From struct {
	Since    uint64 // replay the events after this seq
	HasSince bool   // Since is set, perhaps to 0

	// Epoch and At are those of the event numbered Since, as the reader has seen it. If the log
	// holds another event there, the reader receives a reset and all events.
	Epoch string    // "" = not known
	At    time.Time // zero = not known

	Last  int       // replay this number of the newest events
	After time.Time // replay the events after this time
}

// None reports whether f replays nothing.
func (f From) None() bool { return !f.HasSince && f.Last == 0 && f.After.IsZero() }

// ParseFrom reads a From from the parameters of a query. Get returns the decoded value of
// a parameter, "" for a missing one. The error is always a [*Refusal].
func ParseFrom(get func(name string) string) (f From, err error) {
	begins := 0
	for _, name := range [...]string{"since", "last", "after", "epoch", "at"} {
		value := get(name)
		if value == "" {
			continue
		}
		switch name {
		case "since", "last":
			n, err := strconv.ParseUint(value, 10, 53)
			if err != nil {
				return f, Refuse(BadRequest, "%s=%s is not a number from 0 to 2^53-1", name, clip(value))
			}
			f.number(name, n)
		default:
			if err := f.text(name, value); err != nil {
				return f, err
			}
		}
		if name != "epoch" && name != "at" {
			begins++
		}
	}
	if begins > 1 {
		return f, Refuse(BadRequest, "the query takes one of since, last and after")
	}
	return f, nil
}

// read reads the value of a field of join or history.
func (f *From) read(r *jsonReader, name string) error {
	if name == "since" || name == "last" {
		n, err := r.integer()
		f.number(name, n)
		return err
	}
	s, err := r.str()
	if err != nil || s == "" && name != "after" {
		return err
	}
	return f.text(name, s)
}

// number sets since or last.
func (f *From) number(name string, n uint64) {
	if name == "since" {
		f.Since, f.HasSince = n, true
	} else {
		f.Last = int(min(n, MaxReplay))
	}
}

// text sets after, epoch or at.
func (f *From) text(name, s string) (err error) {
	switch name {
	case "after":
		f.After, err = ParseTime(s)
	case "at":
		f.At, err = ParseTime(s)
		f.At = f.At.Truncate(time.Millisecond) // as events have it
	case "epoch":
		if len(s) > maxEpoch {
			return Refuse(BadRequest, "an epoch has at most %d bytes, this one has %d", maxEpoch, len(s))
		}
		f.Epoch = s
	}
	return err
}

// maxEpoch is the longest epoch of a command, in bytes.
const maxEpoch = 64

// ParseTime reads an RFC 3339 time such as 2026-11-22T10:53:07Z. A time before 1970 becomes the
// beginning of 1970, because the zero [time.Time] stands for a missing time.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, Refuse(BadRequest, "%s is not a time; write for example 2026-11-22T10:53:07Z", clip(s))
	}
	if first := time.Unix(0, 0).UTC(); t.Before(first) {
		return first, nil
	}
	return t.UTC(), nil
}
