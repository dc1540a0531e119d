package check

import (
	"math"
	"time"

	"roomcast/scripts/torture/history"
)

// moderation checks the acts of moderated rooms. It reports nothing if faults of the run may have
// destroyed records.
type moderation struct {
	acts  []*act
	byKey map[string]*act
	looks []*look
	pages map[string]*look // by key
}

// act is an act, an edit or a message in a moderated room.
type act struct {
	history.Entry        // the entry of its invocation
	ended         int64  // when the act was acknowledged; 0 = the act has no ack
	seq           uint64 // the seq of the event that the act made
	body          uint64 // history.Sum of the text, for a message or an edit
}

// look is a page of a moderated room that a client has read.
type look struct {
	room     string
	begun    int64
	from, to uint64
	events   map[uint64]history.Entry
}

// behind is how far a replica may lag. A read from such a replica may lack the records of the last
// two seconds.
const behind = int64(2 * time.Second)

func (m *moderation) entry(e history.Entry) {
	if m.byKey == nil {
		m.byKey, m.pages = map[string]*act{}, map[string]*look{}
	}
	switch e.Op {
	case history.Moderate:
		a := &act{Entry: e}
		m.acts, m.byKey[e.Key] = append(m.acts, a), a
	case history.Moderated:
		if a := m.byKey[e.Key]; a != nil && e.Why == "" {
			a.ended, a.seq, a.body = e.T, e.Seq, e.Body
		}
	case history.Look:
		l := &look{room: e.Room, begun: e.T, events: map[uint64]history.Entry{}}
		if e.Count > 1 {
			l.begun -= behind
		}
		m.pages[e.Key] = l
	case history.Looked:
		if l := m.pages[e.Key]; l != nil && e.From != nil {
			l.from, l.to = *e.From, e.Seq
			m.looks = append(m.looks, l)
		}
	case history.Seen:
		if l := m.pages[e.Key]; l != nil {
			l.events[e.Seq] = e
		}
	}
}

// check checks that the acknowledged acts had an effect on the messages and the pages.
func (m *moderation) check(r *Report) {
	m.silences(r)
	for _, a := range m.acts {
		if a.ended == 0 || a.Kind != "delete" && a.Kind != "edit" {
			continue
		}
		for _, l := range m.looks {
			if of := *a.From; l.room == a.Room && l.begun > a.ended && l.from <= of && of <= l.to {
				m.seen(a, l, r)
			}
		}
	}
}

// silences checks mutes and bans: until a mute or a ban ends, the log must have no message of that
// sender.
func (m *moderation) silences(r *Report) {
	type span struct {
		by       *act
		from, to uint64
	}
	open := map[string]*span{} // by room and sender
	spans := map[string][]*span{}
	for _, a := range m.acts {
		who := a.Room + " " + a.Sender
		switch {
		case a.Kind == "mute" || a.Kind == "ban":
			if a.ended > 0 && open[who] == nil {
				open[who] = &span{a, a.seq, math.MaxUint64}
				spans[who] = append(spans[who], open[who])
			}
		case a.Kind == "unmute" || a.Kind == "unban":
			if s := open[who]; s != nil {
				if s.to = a.seq; a.ended == 0 {
					s.to = s.from // the unmute has no ack, so nobody knows when the mute ended
				}
				delete(open, who)
			}
		}
	}
	for _, a := range m.acts {
		if a.Kind != "say" || a.ended == 0 {
			continue
		}
		for _, s := range spans[a.Room+" "+a.Sender] {
			if a.seq > s.from && a.seq < s.to {
				r.add(Moderated, "%s is stored as %d of %s, after the %s of its sender at %d", a.Key, a.seq, a.Room, s.by.Kind, s.from)
			}
		}
	}
}

// seen checks that a page which was read after a delete or an edit shows its effect.
func (m *moderation) seen(a *act, l *look, r *Report) {
	e, shown := l.events[*a.From]
	switch {
	case !shown:
		r.add(Moderated, "a page of %s from %d to %d lacks %d, although %s was acknowledged before", l.room, l.from, l.to, *a.From, a.Key)
	case e.Dup:
		if a.Kind == "edit" && !m.deleted(a) {
			r.add(Moderated, "a page of %s has a stub at %d, although nobody deleted the message", l.room, *a.From)
		}
	case a.Kind == "delete":
		r.add(Moderated, "a page of %s shows %d, although %s had deleted it", l.room, *a.From, a.Key)
	case !m.edited(a, e.Body):
		r.add(Moderated, "a page of %s shows an older text of %d than that of %s", l.room, *a.From, a.Key)
	}
}

// deleted reports whether anybody tried to delete the message that edit changes.
func (m *moderation) deleted(edit *act) bool {
	for _, a := range m.acts {
		if a.Kind == "delete" && a.Room == edit.Room && *a.From == *edit.From {
			return true
		}
	}
	return false
}

// edited reports whether body is the text of the edit or of a later edit of the same message.
func (m *moderation) edited(edit *act, body uint64) bool {
	for _, a := range m.acts {
		if a.Kind == "edit" && a.Room == edit.Room && *a.From == *edit.From && a.Body == body && (a.seq == 0 || a.seq >= edit.seq) {
			return true
		}
	}
	return false
}
