package check

import (
	"slices"
	"time"
)

// pauses finds the times in which messages waited for an ack and no ack came.
type pauses struct {
	faults  []*period // the faults that were at work since the last ack
	periods []*period // all faults
	waiting int       // messages that were invoked and not answered
	lastAck int64     // when the last ack came, or when waiting changed from 0 to 1
}

// period is the time in which one fault is at work.
type period struct {
	name, key string
	from      int64
	to        int64 // one second after the fault ends
	lastAck   int64 // when the last ack came in this period, or its beginning
	over      bool
	shown     Period
}

// ack processes an ack that came at now.
func (s *period) ack(now int64) {
	if s.over {
		return
	}
	s.shown.Acks++
	s.shown.Gap = max(s.shown.Gap, time.Duration(now-s.lastAck))
	s.lastAck = now
}

// end ends the fault at now.
func (s *period) end(now int64) {
	s.shown.Gap = max(s.shown.Gap, time.Duration(now-s.lastAck))
	s.shown.For, s.over = time.Duration(now-s.from), true
}

// blame attributes the time without an ack, which ends at now, to the faults that were at work in
// it. Then it drops the faults that are over, because no later pause overlaps them.
func (p *pauses) blame(now int64, report *Report) {
	p.faults = slices.DeleteFunc(p.faults, func(s *period) bool { return s.to < p.lastAck })
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
