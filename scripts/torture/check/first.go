package check

import (
	"slices"

	"roomcast/scripts/torture/history"
)

// first holds the findings of the first reading for the second.
type first struct {
	known  map[string]map[string]bool // by room: the epochs that members were told
	places map[string]uint64          // by key: the seq that a client was told first, 0 = another was told later
}

// learn processes the epochs and the places of messages.
func (f *first) learn(e history.Entry) {
	switch e.Op {
	case history.OK, history.Recv, history.PageRecv:
		if place, ok := f.places[e.Key]; ok && place != e.Seq {
			f.places[e.Key] = 0
		} else {
			f.places[e.Key] = e.Seq
		}
	}
	if e.Epoch != "" {
		if f.known[e.Room] == nil {
			f.known[e.Room] = map[string]bool{}
		}
		f.known[e.Room][e.Epoch] = true
	}
}

// moved reports whether the message of a key was once stored under another seq than now: a
// fault destroyed it, and its sender sent it again.
func (f *first) moved(key string, seq uint64) bool {
	place, ok := f.places[key]
	return ok && place != seq
}

// renewed reports whether epoch, which is in the log of a room, followed another one.
func (f *first) renewed(room string, l *log, epoch string) bool {
	if slices.Index(l.epochs, epoch) > 0 {
		return true
	}
	for known := range f.known[room] {
		if !slices.Contains(l.epochs, known) {
			return true // nothing is left of it
		}
	}
	return false
}
