package presence

import (
	"slices"
	"time"

	"roomcast/proto"
)

// Times for a tracker.
const (
	batchTime  = 100 * time.Millisecond // a gateway sends the changes in a room at most once in this time
	askTime    = 500 * time.Millisecond // the shortest time between two questions about the same missing changes
	settleTime = time.Second            // for this long after the first join on this gateway, the lists of other gateways cause no joins
	endTime    = 5 * time.Second        // how long the tracker of a room stays after the last member on this gateway has left

	// A gateway sends the mark of its newest change again after these times. So other gateways
	// notice if they have missed the change.
	firstRepeat  = time.Second
	secondRepeat = 3 * time.Second
)

// Tracker knows which people are in one room, on this gateway and on all others. It counts
// people, not sessions. It exists while the room has members on this gateway, and for endTime
// after the last member here has left.
//
// Each gateway numbers the changes among its own people and sends them to the other gateways. If
// a tracker misses a change, it asks for the whole list. So when messages arrive again after an
// interruption, all trackers of a room soon agree.
//
// A tracker does no I/O and reads no clock. One goroutine owns it.
type Tracker struct {
	self   string // ID of this gateway
	here   roster
	mark   Mark              // mark of the people in here
	others map[string]*share // what is known of other gateways' people, by gateway
	count  int               // number of people in here and others together, each counted once

	unsent  []Delta   // changes of here that have no mark yet
	sent    time.Time // when changes were last sent
	repeats int       // how often the newest mark must still be sent again
	asked   time.Time // when the other gateways were last asked
	doubt   bool      // changes may have been lost, so ask all gateways
	begun   time.Time
	emptied time.Time // when the last person on this gateway left; zero = there are people here
	notices notices
}

// share is what a tracker knows of the people on another gateway.
type share struct {
	people roster
	mark   Mark // mark of people
	newest Mark // the newest mark that the gateway has sent
	known  bool // the gateway has sent its people at least once

	incoming *Share // the parts of a list that have arrived so far
}

func (s *share) behind() bool { return s.mark.Before(s.newest) }

// Event is the input of a tracker: one of the following types, a Change or a Share.
type Event any

// The events other than a Change and a Share.
type (
	// Join means that a session of a person has joined the room on this gateway.
	Join struct{ Who proto.Identity }
	// Leave means that a session of a person has left the room on this gateway.
	Leave struct {
		Who    proto.Identity
		Reason proto.LeaveReason
	}
	// Gone means that another gateway has died or stopped.
	Gone struct{ Gateway string }
	// Doubt means that messages from or to this gateway may have been lost.
	Doubt struct{}
	// Recount means that roomsvc requests the people on this gateway.
	Recount struct{}
	// Tick means that time has passed.
	Tick struct{}
)

// Output says what to do after an event.
type Output struct {
	Notices []Notice // notices for the members on this gateway
	Send    []Change // changes for all other gateways
	Answer  []Share  // a list for the gateway whose change was applied, or for roomsvc
}

// NewTracker returns the tracker of a room without people. The parameter run is the time in Unix
// nanoseconds. It must be greater than the run of any earlier tracker for this room on this
// gateway.
func NewTracker(self string, run int64, now time.Time) *Tracker {
	return &Tracker{self: self, mark: Mark{Run: run}, begun: now, emptied: now, doubt: true}
}

// Apply applies an event.
func (t *Tracker) Apply(e Event, now time.Time) (out Output) {
	switch e := e.(type) {
	case Join:
		t.join(e.Who, now)
	case Leave:
		t.leave(e, now)
	case Gone:
		t.gone(e.Gateway, now)
	case Doubt:
		t.doubt, t.repeats, t.sent = true, 2, now
		if len(t.here.list) == 0 {
			t.emptied = now // the other gateways may not know that nobody is in the room here
		}
	case Recount:
		if len(t.here.list) > 0 {
			t.flushUnsent(now, &out)
			out.Answer = t.shares()
		}
	case Change:
		out.Answer = t.change(&e, now, &out)
	case Share:
		t.share(&e, now)
	}
	t.send(now, &out)
	if len(t.here.list) > 0 {
		out.Notices = append(out.Notices, t.notices.take(t.count, now)...)
	} else {
		t.notices = notices{}
	}
	return out
}

// Count returns the number of people in the room.
func (t *Tracker) Count() int { return t.count }

// Busy reports whether the tracker needs a Tick.
func (t *Tracker) Busy() bool {
	return t.doubt || len(t.unsent) > 0 || t.repeats > 0 || t.notices.pending || len(t.here.list) == 0 || t.behind()
}

// Over reports whether the tracker may be deleted.
func (t *Tracker) Over(now time.Time) bool {
	return len(t.here.list) == 0 && now.Sub(t.emptied) > endTime
}

func (t *Tracker) behind() bool {
	for _, s := range t.others {
		if s.behind() {
			return true
		}
	}
	return false
}

func (t *Tracker) join(who proto.Identity, now time.Time) {
	if i := t.here.find(who.ID); i >= 0 {
		if t.here.list[i].Sessions++; t.here.rename(i, who) {
			t.unsent = append(t.unsent, Delta{Identity: who})
		}
		return
	}
	first := len(t.here.list) == 0
	if first {
		t.begun, t.emptied, t.doubt = now, time.Time{}, true
	}
	t.here.add(who)
	t.unsent = append(t.unsent, Delta{Identity: who})
	if t.came(who, &t.here, now); first && len(t.notices.ready) == 0 {
		t.notices.count(t.count) // the person is already in the room on another gateway
	}
}

func (t *Tracker) leave(e Leave, now time.Time) {
	i := t.here.find(e.Who.ID)
	if i < 0 {
		return
	}
	if t.here.list[i].Sessions--; t.here.list[i].Sessions > 0 {
		return
	}
	who := t.here.remove(i)
	t.unsent = append(t.unsent, Delta{Identity: who, Left: e.Reason})
	t.went(who, &t.here, e.Reason, now)
	if len(t.here.list) == 0 {
		t.emptied = now
	}
}

// elsewhere reports whether the person is in another roster than r.
func (t *Tracker) elsewhere(id string, r *roster) bool {
	if r != &t.here && t.here.has(id) {
		return true
	}
	for _, s := range t.others {
		if r != &s.people && s.people.has(id) {
			return true
		}
	}
	return false
}

// came updates the count after a person was added to r. The method went updates the count after a
// person was removed.
func (t *Tracker) came(who proto.Identity, r *roster, now time.Time) {
	if !t.elsewhere(who.ID, r) {
		t.count++
		t.notices.add(Notice{Who: who, Count: t.count}, now)
	}
}

func (t *Tracker) went(who proto.Identity, r *roster, reason proto.LeaveReason, now time.Time) {
	if !t.elsewhere(who.ID, r) {
		t.count--
		t.notices.add(Notice{Left: true, Who: who, Reason: reason, Count: t.count}, now)
	}
}

func (t *Tracker) gone(gateway string, now time.Time) {
	s := t.others[gateway]
	if s == nil {
		return
	}
	t.replace(s, nil, proto.LeftLost, now)
	delete(t.others, gateway)
}

// of returns what is known of the people on a gateway.
func (t *Tracker) of(gateway string) *share {
	s := t.others[gateway]
	if s == nil {
		if t.others == nil {
			t.others = make(map[string]*share)
		}
		s = new(share)
		t.others[gateway] = s
	}
	return s
}

func (t *Tracker) change(c *Change, now time.Time, out *Output) []Share {
	if c.Gateway == t.self {
		return nil
	}
	s := t.of(c.Gateway)
	if s.newest.Before(c.Mark) {
		s.newest = c.Mark
	}
	first := c.Mark.Version == 1 && s.mark.Run < c.Mark.Run // the room had no people there before
	next := c.Mark.Run == s.mark.Run && c.Mark.Version == s.mark.Version+1
	if len(c.Deltas) > 0 && (first || next) {
		if first {
			t.replace(s, nil, proto.LeftLost, now)
		}
		t.deltas(s, c.Deltas, now)
		s.mark, s.known = c.Mark, true
	}
	if !c.Ask {
		return nil
	}
	known, told := c.Known[t.self]
	t.flushUnsent(now, out)
	if told && known == t.mark || !told && len(t.here.list) == 0 {
		return nil
	}
	return t.shares()
}

func (t *Tracker) deltas(s *share, deltas []Delta, now time.Time) {
	for _, d := range deltas {
		i := s.people.find(d.ID)
		switch {
		case d.Left == "" && i < 0:
			s.people.add(d.Identity)
			t.came(d.Identity, &s.people, now)
		case d.Left == "":
			s.people.rename(i, d.Identity)
		case d.Left != "" && i >= 0:
			t.went(s.people.remove(i), &s.people, d.Left, now)
		}
	}
}

// shares returns the list of the people on this gateway, divided into parts.
func (t *Tracker) shares() (parts []Share) {
	for some := range slices.Chunk(t.here.identities(), maxEntries) {
		parts = append(parts, Share{Gateway: t.self, Mark: t.mark, People: some, Part: len(parts), More: true})
	}
	if parts == nil {
		parts = []Share{{Gateway: t.self, Mark: t.mark}}
	}
	parts[len(parts)-1].More = false
	return parts
}

// share handles one part of another gateway's list.
func (t *Tracker) share(e *Share, now time.Time) {
	if e.Gateway == t.self {
		return
	}
	s := t.of(e.Gateway)
	if s.newest.Before(e.Mark) {
		s.newest = e.Mark
	}
	switch in := s.incoming; {
	case e.Part == 0:
		s.incoming = e
	case in != nil && in.Mark == e.Mark && in.Part+1 == e.Part:
		in.People, in.Part = append(in.People, e.People...), e.Part
	default:
		return // a part is missing, so the tracker is still behind and asks again
	}
	if e.More {
		return
	}
	people := s.incoming.People
	s.incoming = nil
	if s.known && !s.mark.Before(e.Mark) {
		return // the list is older than what the tracker knows
	}
	if !s.known && now.Sub(t.begun) < settleTime { // these people were in the room before the first person joined here
		t.notices.count(t.count)
	}
	t.replace(s, people, "", now)
	s.mark, s.known = e.Mark, true
}

// replace replaces the people in s by the list. People who are not in the list have left, for
// the given reason.
func (t *Tracker) replace(s *share, people []proto.Identity, reason proto.LeaveReason, now time.Time) {
	if reason == "" {
		reason = proto.LeftLost // the message with the reason was lost
	}
	stay := make(map[string]bool, len(people))
	for _, who := range people {
		stay[who.ID] = true
	}
	for i := len(s.people.list) - 1; i >= 0; i-- {
		if !stay[s.people.list[i].ID] {
			t.went(s.people.remove(i), &s.people, reason, now)
		}
	}
	for _, who := range people {
		if i := s.people.find(who.ID); i >= 0 {
			s.people.rename(i, who)
			continue
		}
		s.people.add(who)
		t.came(who, &s.people, now)
	}
}

// send adds to out the messages that must be sent now.
func (t *Tracker) send(now time.Time, out *Output) {
	if len(t.unsent) > 0 && now.Sub(t.sent) >= batchTime {
		t.flush(now, out)
	}
	ask := (t.doubt || t.behind()) && now.Sub(t.asked) >= askTime
	after := [...]time.Duration{0, secondRepeat, firstRepeat}[t.repeats]
	repeat := t.repeats > 0 && now.Sub(t.sent) >= after
	if repeat {
		t.repeats--
	}
	if !ask && !repeat {
		return
	}
	c := Change{Gateway: t.self, Mark: t.mark}
	if n := len(out.Send); n > 0 { // send the question in the same message as the change
		c, out.Send = out.Send[n-1], out.Send[:n-1]
	}
	if ask {
		c.Ask, c.Known = true, make(map[string]Mark)
		for gateway, s := range t.others {
			c.Known[gateway] = s.mark
		}
		t.asked, t.doubt = now, false
	}
	out.Send = append(out.Send, c)
}

// flushUnsent sends the unsent changes, so that the mark describes all people on this gateway.
func (t *Tracker) flushUnsent(now time.Time, out *Output) {
	if len(t.unsent) > 0 {
		t.flush(now, out)
	}
}

// flush gives the unsent changes a new mark and sends them.
func (t *Tracker) flush(now time.Time, out *Output) {
	for some := range slices.Chunk(t.unsent, maxEntries) {
		t.mark.Version++
		out.Send = append(out.Send, Change{Gateway: t.self, Mark: t.mark, Deltas: some})
	}
	t.unsent, t.sent, t.repeats = nil, now, 2
}

// Sum returns the number of people in all rosters. A person counts once for each gateway.
func (t *Tracker) Sum() int {
	n := len(t.here.list)
	for _, s := range t.others {
		n += len(s.people.list)
	}
	return n
}
