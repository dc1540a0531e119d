package check

import (
	"strings"
	"time"

	"roomcast/scripts/torture/history"
)

// say is a message or an act from its invocation to its answer.
type say struct {
	key     string
	client  string
	room    string
	body    uint64
	kind    string
	invoked int64
	ended   int64      // when the answer came
	shut    bool       // the refusal says that the room was closed
	again   bool       // the last try was refused, but an earlier try has no answer
	late    bool       // the client invoked it after the last fault had ended
	floor   uint64     // the highest seq of the room that was acknowledged before this message was invoked
	result  history.Op // "" before the answer
	seq     uint64
	dup     bool // the ack says that the message was stored before
	already bool // the act changed nothing, because the event seq had done the same before
}

func (c *checker) invoke(e history.Entry) {
	if c.says[e.Key] != nil {
		c.report.add(Broken, "%s is invoked twice", e.Key)
		return
	}
	if c.pauses.waiting++; c.pauses.waiting == 1 {
		c.pauses.lastAck = e.T
	}
	s := &say{
		key: e.Key, client: e.Client, room: e.Room, body: e.Body, kind: e.Kind,
		invoked: e.T, late: c.healed,
	}
	if l := c.room(e.Room); l.era == c.losses.era(e.T) {
		s.floor = l.acked
	}
	c.says[e.Key] = s
	c.order = append(c.order, s)
}

func (c *checker) answer(e history.Entry) {
	s := c.says[e.Key]
	if s == nil || s.result != "" {
		c.report.add(Broken, "%s is answered without being invoked, or twice", e.Key)
		return
	}
	s.result, s.ended = e.Op, e.T
	c.pauses.waiting--
	r := c.report
	switch e.Op {
	case history.Fail:
		r.Failed++
		code, _, _ := strings.Cut(e.Why, ":")
		r.Refusals[code]++
		s.shut = code == roomClosed
		return
	case history.Unknown:
		r.Unknown++
		s.again = e.Why == history.RefusedAgain
		return
	}
	r.OK++
	if s.dup = e.Dup; e.Dup {
		r.Duplicates++
	}
	c.pauses.blame(e.T, r)
	r.SlowestAck = max(r.SlowestAck, time.Duration(e.T-s.invoked))
	c.pauses.lastAck = e.T
	s.seq, s.already = e.Seq, e.Dup && s.kind != ""
	l := c.room(s.room)
	if !c.losses.sameEra(s.invoked, e.T) {
		return
	}
	if era := c.losses.era(e.T); l.era != era {
		l.era, l.acked = era, 0
	}
	l.acked = max(l.acked, e.Seq)
	if e.Seq <= s.floor && !s.already {
		r.add(Stale, "%s got seq %d in %s, but was said after %d had been acknowledged", s.key, e.Seq, s.room, s.floor)
	}
}

// roomClosed is the code of a refusal by a closed room.
const roomClosed = "room_closed"

// settle checks that the log has every acknowledged message, and that every stored event was sent
// by a client.
func (c *checker) settle() {
	type sender struct{ client, room string }
	last := map[sender]*say{}
	for _, s := range c.order {
		l := c.room(s.room)
		stored := l.byKey[s.key]
		switch s.result {
		case history.OK:
			if s.already && stored == 0 {
				// An act can change nothing, such as a close of a closed room. The answer then
				// names the event of the earlier act.
				if e, ok := l.at(s.seq); (!ok || e.kind != s.kind) && !c.losses.after(0, history.LossEnd, history.LossAll, history.LossHole, history.LossStart) {
					c.report.add(Lost, "%s was acknowledged as done already by %d, the log of %s has %q there", s.key, s.seq, s.room, e.key)
				}
				continue
			}
			c.acked(s, l, stored)
			if before := last[sender{s.client, s.room}]; before != nil && s.seq <= before.seq && c.losses.sameEra(before.invoked, s.ended) {
				c.report.add(FIFO, "%s said %s before %s, they are stored in %s as %d and %d",
					s.client, before.key, s.key, s.room, before.seq, s.seq)
			}
			last[sender{s.client, s.room}] = s
		case history.Fail:
			if stored != 0 {
				c.report.add(Phantom, "%s was refused, yet it is stored in %s as %d", s.key, s.room, stored)
			}
		case history.Unknown:
			if s.late && !s.again {
				c.report.add(Stuck, "%s, said after the last fault had ended, has no answer", s.key)
			}
		default:
			c.report.add(Stuck, "%s was never answered", s.key)
		}
	}
	closings(c.order, c.losses, c.report)
	for name, l := range c.rooms {
		for i, e := range l.events {
			c.said(name, uint64(i+1), e)
		}
	}
}

// acked compares one acknowledged message with the log.
func (c *checker) acked(s *say, l *log, stored uint64) {
	e, ok := l.at(s.seq)
	end := c.losses.after(s.invoked, history.LossEnd, history.LossAll)
	hole := c.losses.after(s.invoked, history.LossHole, history.LossStart, history.LossAll)
	switch {
	case stored == s.seq:
	case stored != 0 && (end || hole): // a fault destroyed the message, and it was sent and stored again
	case stored != 0:
		c.report.add(Reorder, "%s was acknowledged as %d, the log of %s has it as %d", s.key, s.seq, s.room, stored)
	case s.seq > l.head():
		if !end || !c.replaced(s.room, l, l.epoch(), s.ended) {
			c.report.add(Lost, "%s was acknowledged as %d, the log of %s ends with %d", s.key, s.seq, s.room, l.head())
			return
		}
		c.report.Destroyed++
	case ok && end && c.replaced(s.room, l, e.epoch, s.ended), !ok && hole:
		c.report.Destroyed++
	default:
		c.report.add(Lost, "%s was acknowledged as %d, the log of %s has %q there", s.key, s.seq, s.room, e.key)
	}
}

// said compares one stored event with the message that a client sent.
func (c *checker) said(room string, seq uint64, e event) {
	s := c.says[e.key]
	switch {
	case e == event{}: // an event is missing; this is reported already
	case s == nil:
		c.report.add(Phantom, "%q is stored in %s as %d, but nobody said it", e.key, room, seq)
	case s.room != room:
		c.report.add(Phantom, "%s was said in %s and is stored in %s as %d", e.key, s.room, room, seq)
	case s.body != e.body || s.kind != e.kind:
		c.report.add(Phantom, "%s is stored in %s as %d with another content than was said", e.key, room, seq)
	}
}
