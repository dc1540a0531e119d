// Package room holds the rules of one room, and nothing else: no goroutine, no I/O, no
// clock. The owner of a partition passes commands in the order of their arrival, and commits
// the resulting records in the same order:
//
//	command -> Apply -> event (a record to commit) | duplicate | refusal | close
//
// Apply changes the room as if its record were committed already. So the owner must not send an
// answer before it has committed all records of earlier commands. If a commit fails, the owner must
// drop the room and rebuild it from the log with [Restore].
//
// The text files in testdata show the rules as scenarios; to read them you need not know Go.
package room

import (
	"cmp"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"roomcast/proto"
)

// Rules are an operator's settings for all rooms. They must not change while rooms use them.
// They are safe for concurrent use.
type Rules struct {
	CloseWords []string       // texts that close their sender's connection and are never stored
	Zone       *time.Location // of stamps
	Layout     string         // of stamps, for package time
	Window     time.Duration  // how long a room remembers a sender's key
	Keys       int            // keys that a room remembers for one sender; for one more key, the room forgets the oldest
	MaxRecord  int            // bytes of an event as JSON
	History    int            // records of a room that the log keeps; 0 = not known

	// stamp caches the newest stamp. Formatting a stamp for each message would take a tenth of the
	// time of Apply.
	stamp atomic.Pointer[stamp]
}

type stamp struct {
	at   time.Time
	text string
}

func (r *Rules) stampOf(at time.Time) string {
	s := r.stamp.Load()
	if s == nil || !s.at.Equal(at) {
		s = &stamp{at, at.In(r.Zone).Format(r.Layout)}
		r.stamp.Store(s)
	}
	return s.text
}

// DefaultRules returns the default settings. They promise that a resent message is stored once
// if it comes within 2 minutes, and before 1000 further messages of its sender.
func DefaultRules() *Rules {
	return &Rules{
		CloseWords: []string{"关闭"},
		Zone:       time.Local,
		Layout:     time.DateTime,
		Window:     2 * time.Minute,
		Keys:       1000,
		MaxRecord:  132 << 10,
	}
}

// Command is a request that package service has checked.
type Command struct {
	proto.Request
	Digests []proto.Digest // of the content, one for each encryption key; the record gets the first, and a resend may match any of them
	Target  *proto.Record  // the record with the seq in Terms.Seq, without its payload; nil = the log does not have it
	Secret  bool           // members do not see the key of Target; see [proto.Record.HidesKey]
	Guest   bool           // the sender is a NATS client without an identity of its own
}

// Moment is the time at which a command is applied: the time of the clock, and the position in the
// stream.
type Moment struct {
	Now    time.Time // may be earlier than the time of the last command; but the times of records never go back
	Stream uint64    // every record that is committed later has a higher stream sequence

	MaxRecord int // bytes of an event as JSON that the log accepts now, if fewer than Rules.MaxRecord; 0 = not known
}

// Outcome is the result of a command. Before the owner sends the reply, it must have committed all
// earlier records and the record of this outcome.
type Outcome struct {
	Reply  proto.Reply
	Record *proto.Record // the record to commit; nil = the command stores nothing
}

// Room is the state of one room: the state after its last record, and the keys of its recent
// records. It belongs to the goroutine that owns its partition.
type Room struct {
	name   proto.Room
	rules  *Rules
	seq    uint64 // seq of the last record; 0 = the room has no record
	state  proto.State
	renew  bool // the next record begins a new epoch
	closed closing
	limits *proto.Restrictions // nil = none
	spoke  spoken
	keys   keys
}

// closing is the act that closed a closed room.
type closing struct {
	seq uint64 // 0 = not known
	at  time.Time
	why string
}

// New returns a room whose log is empty.
func New(name proto.Room, rules *Rules) *Room {
	return &Room{name: name, rules: rules}
}

// Restore returns the room after last, the newest record of its log. The caller adds the keys
// of recent records with [Room.Remember].
func Restore(last *proto.Record, rules *Rules) *Room {
	r := &Room{name: last.Room, rules: rules, seq: last.Seq, state: last.State}
	if last.Kind == proto.Closed {
		r.closed = closing{seq: last.Seq, at: last.State.At}
		if e, err := proto.ParseEvent(last.Payload); err == nil {
			r.closed.why = e.Why
		}
	}
	return r
}

// Recall applies a snapshot to a room whose log no longer holds the newest act.
func (r *Room) Recall(s *proto.Snapshot) {
	r.state.Closed = s.Closed
	if r.seq == 0 {
		r.state.Epoch = s.Epoch // the next epoch must have another name
	}
	if s.Closed {
		r.closed = closing{seq: s.Seq, at: s.At, why: s.Why}
	}
	r.limits = s.Limits
}

// Restrict sets the restrictions that are in force after the room's newest record.
func (r *Room) Restrict(limits *proto.Restrictions) { r.limits = limits }

// Slow returns the shortest time between two messages of a member; 0 = there is no limit.
func (r *Room) Slow() time.Duration { return r.limits.Interval() }

// Renew makes the next record begin a new epoch, because the room's log has lost its end. The seqs
// continue after the seq of the last remaining record.
func (r *Room) Renew() { r.renew = r.seq > 0 }

// Renewing reports whether the next record begins a new epoch. Until that record is stored, only
// the room in memory knows it.
func (r *Room) Renewing() bool { return r.renew }

// Standing says whether a room has a record that a gateway has sent to members.
type Standing int

const (
	Settled Standing = iota // no further check is needed: the record is the newest one, or is of another epoch, or the room begins a new epoch anyway
	Unsure                  // the room has newer records, so only the log shows whether it has this record
	Missing                 // the room does not have the record
)

// Compare says whether the room has the record with the given epoch, seq and time.
func (r *Room) Compare(epoch string, seq uint64, at time.Time) Standing {
	switch {
	case epoch != r.state.Epoch || r.seq == 0 || r.renew:
		return Settled
	case seq > r.seq, seq == r.seq && !at.IsZero() && !at.Equal(r.state.At):
		return Missing
	case seq == r.seq:
		return Settled
	}
	return Unsure
}

// Snapshot returns the state that must outlive the room's log.
func (r *Room) Snapshot() proto.Snapshot {
	s := proto.Snapshot{Epoch: r.state.Epoch, Seq: r.state.Act, Closed: r.state.Closed, At: r.state.At, Limits: r.limits}
	if s.Closed {
		s.Why, s.At = r.closed.why, r.closed.at
	}
	return s
}

// Remember adds the key of a record in the log, so that the room recognises a resend. The caller
// adds the oldest record first. The parameter age is the time since the record was stored.
func (r *Room) Remember(rec *proto.Record, now time.Time, age time.Duration) {
	switch {
	case rec.Kind.HasContent():
		r.spoke.add(rec.From, r.keys.clock(now)-max(0, age), r.limits)
	case rec.Kind == proto.Deleted: // the log no longer has the message, so take its key from the event of the deletion
		e, err := proto.ParseEvent(rec.Payload)
		if key := cmp.Or(e.Author.Key, rec.Once); err == nil && key != "" {
			s := stored{seq: e.Of, at: e.Author.At.UnixMilli(), seen: r.keys.clock(now) - max(0, age)}
			r.keys.add(e.Author.ID, key, s, r.rules)
		}
	}
	if rec.Key != "" {
		s := stored{rec.Seq, rec.State.At.UnixMilli(), r.keys.clock(now) - max(0, age), rec.Digest}
		r.keys.add(rec.From, rec.Key, s, r.rules)
	}
}

// Seq returns the seq of the newest record; 0 before the first one.
func (r *Room) Seq() uint64 { return r.seq }

// Keys returns the number of remembered keys.
func (r *Room) Keys() int { return r.keys.len() }

// Expire drops the keys that are older than the window.
func (r *Room) Expire(now time.Time) {
	r.keys.expire(now, r.rules.Window)
	r.spoke.expire(r.keys.clock(now), r.limits)
}

// Apply decides a command.
func (r *Room) Apply(c *Command, m Moment) Outcome {
	if c.Key != "" {
		if s, ok := r.keys.find(c.From.ID, c.Key, m.Now, r.rules.Window); ok {
			if s.digest != (proto.Digest{}) && !slices.Contains(c.Digests, s.digest) {
				return refuse(proto.BadRequest, "this key was used for another message or act, stored as seq %d; use a new key", s.seq)
			}
			if r.undone(c, time.UnixMilli(s.at), m.Now) {
				return refuse(proto.BadRequest, "this key was used for the same act, stored as seq %d and undone since; use a new key", s.seq)
			}
			return duplicate(s.seq, time.UnixMilli(s.at).UTC())
		}
	}
	right := proto.RightSay
	if c.Act != "" {
		if !c.Act.Known() {
			return refuse(proto.Unsupported, "this server does not know how to %s", c.Act)
		}
		right = c.Act.Permits(c.Rights)
	}
	guest := c.Guest || proto.IsGuest(c.From.ID)
	if !c.Rights.Allow(right) {
		return refusal(proto.Lacks(right))
	}
	if banned := r.limits.CheckBan(c.From.ID, guest, m.Now); banned != nil {
		return refusal(banned)
	}
	if c.Act != "" && right == proto.RightModerate {
		return r.moderate(c, m)
	}
	if muted := r.limits.CheckMute(c.From.ID, guest, m.Now); muted != nil {
		return refusal(muted)
	}
	return r.say(c, m)
}

// say decides a message, and an edit or a delete by a sender without the right to moderate.
func (r *Room) say(c *Command, m Moment) Outcome {
	if c.Line && slices.Contains(r.rules.CloseWords, string(c.Content.Body)) {
		return Outcome{Reply: proto.Reply{Close: proto.CloseNormal}}
	}
	if r.state.Closed {
		if r.closed.why != "" {
			return refuse(proto.RoomClosed, "the room is closed (%s); nothing can be said in it until it is reopened", r.closed.why)
		}
		return refuse(proto.RoomClosed, "the room is closed; nothing can be said in it until it is reopened")
	}
	if wait := r.wait(c, m.Now); wait > 0 && c.Act.HasContent() {
		slow := proto.Refuse(proto.RateLimited, "this room is slow: a member may say one message in %v; send this one again later", r.limits.Slow)
		return refusal(slow.After(wait))
	}
	if c.Act != "" {
		return r.change(c, m)
	}
	return r.record(&proto.Event{Content: c.Content}, c, m)
}

// record makes the next record of the room, which contains the event e.
func (r *Room) record(e *proto.Event, c *Command, m Moment) Outcome {
	seq, next := r.seq+1, r.state
	// Truncate the time, because records store it in milliseconds. Otherwise the next owner would
	// read from the log a time that differs from the time in this owner's memory.
	if at := m.Now.UTC().Truncate(time.Millisecond); at.After(next.At) {
		next.At = at
	}
	if seq == 1 || r.renew {
		next.Epoch = newEpoch(next.At, r.state.Epoch)
		next.Act = 0
		if !r.limits.IsEmpty(m.Now) { // readers then look for the snapshot, which has the restrictions
			next.Act = seq
		}
		e.Epoch = next.Epoch
	}
	if (seq-1)%proto.PageSize == 0 {
		next.Page, next.Start = next.Start, m.Stream+1
	}
	if e.Kind != proto.Message {
		next.Act = seq
	}
	switch e.Kind {
	case proto.Closed:
		next.Closed = true
	case proto.Reopened:
		next.Closed = false
	}

	e.Room, e.Seq, e.At, e.From = r.name, seq, next.At, c.From
	if !c.Hidden {
		e.Key = c.Key
	}
	payload, text := e.AppendRecord(make([]byte, 0, 224+len(c.Content.Body)+len(c.Content.Body)/8))
	limit := r.rules.MaxRecord
	if m.MaxRecord > 0 {
		limit = min(limit, m.MaxRecord)
	}
	if len(payload) > limit {
		return refuse(proto.TooLarge, "the message needs %d bytes in the log, at most %d are allowed", len(payload), limit)
	}
	r.seq, r.state, r.renew = seq, next, false
	switch {
	case e.Kind.HasContent():
		r.spoke.add(c.From.ID, r.keys.clock(m.Now), r.limits)
	case e.Kind == proto.Closed:
		r.closed = closing{seq: seq, at: next.At, why: c.Why}
	}
	if next.Act == seq {
		r.limits = r.limits.After(e, next.Epoch)
		if changed := len(r.limits.Deleted) + len(r.limits.Edits); changed > 0 && r.rules.History > 0 {
			// A deleted record does not count for the limit of the log. So for each deleted record,
			// the log keeps one older record more.
			r.limits = r.limits.Forget(seq - min(seq, uint64(r.rules.History+len(r.limits.Deleted))))
		}
	}
	rec := &proto.Record{
		Room: r.name, Seq: seq, Kind: e.Kind, From: c.From.ID, Key: c.Key,
		Stamp: r.rules.stampOf(next.At), State: next, Text: text, Payload: payload,
	}
	if c.Key != "" {
		if len(c.Digests) > 0 {
			rec.Digest = c.Digests[0]
		}
		r.keys.add(c.From.ID, c.Key, stored{seq, next.At.UnixMilli(), r.keys.clock(m.Now), rec.Digest}, r.rules)
	}
	return Outcome{Reply: proto.Reply{Seq: seq, At: next.At}, Record: rec}
}

// newEpoch returns a name, different from old, for an epoch that begins at the given time.
func newEpoch(at time.Time, old string) string {
	for ms := at.UnixMilli(); ; ms++ {
		if epoch := strconv.FormatInt(ms, 36); epoch != old {
			return epoch
		}
	}
}

func duplicate(seq uint64, at time.Time) Outcome {
	return Outcome{Reply: proto.Reply{Seq: seq, At: at, Duplicate: true}}
}

func refuse(code proto.Code, format string, args ...any) Outcome {
	return refusal(proto.Refuse(code, format, args...))
}

func refusal(r *proto.Refusal) Outcome { return Outcome{Reply: proto.Reply{Refusal: r}} }
