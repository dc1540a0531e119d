package check

import (
	"testing"

	"roomcast/scripts/torture/history"
)

// moderatedRun is a history of one moderated room: messages, an edit, a mute and a delete, and
// pages that were read afterwards.
func moderatedRun() []history.Entry {
	one, two := uint64(1), uint64(2)
	var h []history.Entry
	add := func(e history.Entry) {
		e.Client, e.Room, e.T = "mod", "m", int64(len(h)+1)
		h = append(h, e)
	}
	do := func(key, kind string, of *uint64, seq uint64) {
		e := history.Entry{Op: history.Moderate, Key: key, Kind: kind, Sender: "ann", From: of, Body: history.Sum(key)}
		add(e)
		e.Op, e.Seq = history.Moderated, seq
		add(e)
	}
	do("say-1", "say", nil, 1)
	do("say-2", "say", nil, 2)
	do("edit-1", "edit", &one, 3)
	do("mute", "mute", nil, 4)
	do("delete-2", "delete", &two, 5)
	do("unmute", "unmute", nil, 6)
	do("edit-1b", "edit", &one, 7)
	do("say-3", "say", nil, 8)
	add(history.Entry{Op: history.Look, Key: "l1"})
	add(history.Entry{Op: history.Seen, Key: "l1", Seq: 1, Body: history.Sum("edit-1b")})
	add(history.Entry{Op: history.Seen, Key: "l1", Seq: 2, Dup: true})
	add(history.Entry{Op: history.Seen, Key: "l1", Seq: 8, Body: history.Sum("say-3")})
	add(history.Entry{Op: history.Looked, Key: "l1", From: &one, Seq: 8})
	return h
}

func TestModerationIsChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		mutate func(h []history.Entry) []history.Entry
		broken bool
	}{
		"no violation": {func(h []history.Entry) []history.Entry { return h }, false},
		"a message of a muted sender": {func(h []history.Entry) []history.Entry {
			h[15].Seq = 5
			return h
		}, true},
		"an unmute without an answer": {func(h []history.Entry) []history.Entry {
			h[15].Seq, h[11].Why = 5, "no answer"
			return h
		}, false},
		"deleted content": {func(h []history.Entry) []history.Entry {
			h[18].Dup, h[18].Body = false, history.Sum("say-2")
			return h
		}, true},
		"no stub for a deleted message": {func(h []history.Entry) []history.Entry {
			h[18].Seq = 3
			return h
		}, true},
		"the text before the last edit": {func(h []history.Entry) []history.Entry {
			h[17].Body = history.Sum("edit-1")
			return h
		}, true},
		"the first text": {func(h []history.Entry) []history.Entry {
			h[17].Body = history.Sum("say-1")
			return h
		}, true},
		"a stub for a message that nobody deleted": {func(h []history.Entry) []history.Entry {
			h[17].Dup = true
			return h
		}, true},
		"a page that was asked for before the delete": {func(h []history.Entry) []history.Entry {
			h[16].T, h[18].Dup = 9, false
			return h
		}, false},
	} {
		var m moderation
		for _, e := range tt.mutate(moderatedRun()) {
			m.entry(e)
		}
		r := &Report{Broken: map[Rule]int{}}
		if m.check(r); (r.Broken[Moderated] > 0) != tt.broken {
			t.Errorf("%s: got %v, want a violation: %v", name, r.Violations, tt.broken)
		}
	}
}
