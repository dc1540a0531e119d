package check

import (
	"slices"
	"time"
)

// pauses finds the times without an ack.
type pauses struct {
	faults  []*spell // the faults that may be at work in the present time without an ack
	spells  []*spell // all faults
	waiting int      // messages that were invoked and not answered
	lastAck int64    // when the last ack came, or when waiting became 1
}

// spell is one fault at work.
type spell struct {
	name, key string
	from      int64
	to        int64 // a second after it ends
	lastAck   int64 // when the last ack came while it was at work
	over      bool
	shown     Spell
}

// ack processes an ack that came at now.
func (s *spell) ack(now int64) {
	if s.over {
		return
	}
	s.shown.Acks++
	s.shown.Gap = max(s.shown.Gap, time.Duration(now-s.lastAck))
	s.lastAck = now
}

// end ends the fault at now.
func (s *spell) end(now int64) {
	s.shown.Gap = max(s.shown.Gap, time.Duration(now-s.lastAck))
	s.shown.For, s.over = time.Duration(now-s.from), true
}

// blame attributes the time without an ack that ends at now to the faults at work in it. It
// drops the faults that ended earlier, because later times without an ack do not overlap them.
func (p *pauses) blame(now int64, report *Report) {
	p.faults = slices.DeleteFunc(p.faults, func(s *spell) bool { return s.to < p.lastAck })
	for _, s := range p.faults {
		s.ack(now)
	}
	gap := time.Duration(now - p.lastAck)
	if gap > report.LongestAckGap {
		report.LongestAckGap, report.AckGapFaults = gap, len(p.faults)
	}
	if len(p.faults) == 1 {
		name := p.faults[0].name
		f := report.Faults[name]
		f.Alone = max(f.Alone, gap)
		report.Faults[name] = f
	}
}
