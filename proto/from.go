package proto

import (
	"strconv"
	"time"
)

// From is a position in a room's log where a replay begins. At most one of Since, Last and After
// is set. The zero From requests no replay.
type From struct {
	Since    uint64 // replay the events after this seq
	HasSince bool   // Since is set; its value may be 0

	// Epoch and At belong to the event with the seq Since, as the reader has received it. If the
	// log contains another event with this seq, the reader receives a reset, and then all events
	// from the oldest one on.
	Epoch string    // "" = unknown
	At    time.Time // zero = unknown

	Last  int       // replay this many of the newest events
	After time.Time // replay the events after this time
}

// None reports whether f requests no replay.
func (f From) None() bool { return !f.HasSince && f.Last == 0 && f.After.IsZero() }

// ParseFrom reads a From from the parameters of a URL query. The function get returns the
// decoded value of a parameter, or "" if it is missing. The error is always a [*Refusal].
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
		return f, Refuse(BadRequest, "the query may contain only one of since, last and after")
	}
	return f, nil
}

// read reads one field of join or history.
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
		f.At = f.At.Truncate(time.Millisecond) // events have times in whole milliseconds
	case "epoch":
		if len(s) > maxEpoch {
			return Refuse(BadRequest, "an epoch has at most %d bytes, this one has %d", maxEpoch, len(s))
		}
		f.Epoch = s
	}
	return err
}

// maxEpoch is the length of the longest epoch that a command may contain, in bytes.
const maxEpoch = 64

// ParseTime reads an RFC 3339 time such as 2026-11-22T10:53:07Z. For a time before 1970 it
// returns the beginning of 1970, because the zero [time.Time] means that there is no time.
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
