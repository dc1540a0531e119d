package check

import (
	"math"
	"slices"
	"time"

	"roomcast/scripts/torture/history"
)

// lateAct is how long an act may still be carried out after its sender has given up waiting for the
// answer.
const lateAct = int64(time.Minute)

// closings checks the answers to messages against the acts that closed and opened the rooms. It
// uses the times of the answers. It does not use the log, because a fault may have destroyed an act
// in the log.
func closings(order []*say, losses losses, report *Report) {
	type period struct {
		by       *say
		from, to int64
	}
	acts := map[string][]*say{}     // by room, in order
	closed := map[string][]period{} // by room: the times in which the room was closed
	for _, s := range order {
		if s.kind == "" {
			continue
		}
		acts[s.room] = append(acts[s.room], s)
		list := closed[s.room]
		switch open := len(list) == 0 || list[len(list)-1].to != math.MaxInt64; {
		case s.kind == "closed" && s.result == history.OK && open:
			closed[s.room] = append(list, period{s, s.ended, math.MaxInt64})
		case s.kind == "reopened" && !open:
			list[len(list)-1].to = s.invoked
		}
	}
	for _, s := range order {
		if s.shut {
			refused(s, acts[s.room], losses, report)
		}
		if s.kind != "" || s.result != history.OK || s.dup {
			continue
		}
		for _, by := range closed[s.room] {
			if s.invoked > by.from && s.ended < by.to && !mayReopen(acts[s.room], by.from, s.ended) &&
				!losses.between(by.by.invoked, s.ended, history.LossState) {
				report.add(AfterClose, "%s was acknowledged in %s, which %s had closed", s.key, s.room, by.by.key)
			}
		}
	}
}

// mayReopen looks for reopenings without an answer. It reports whether one of them may have been
// carried out between two times.
func mayReopen(acts []*say, from, to int64) bool {
	return slices.ContainsFunc(acts, func(act *say) bool {
		unanswered := act.result != history.OK && act.result != history.Fail
		return act.kind == "reopened" && unanswered && act.invoked < to && (act.ended == 0 || act.ended+lateAct > from)
	})
}

// refused checks a message that was refused because its room was closed. It reports a violation
// if the acts show that the room was open.
func refused(s *say, acts []*say, losses losses, report *Report) {
	var opened *say // the last act whose answer came before the message was said
	for _, act := range acts {
		switch {
		case act.invoked > s.ended || act.result == history.Fail:
		case act.result != history.OK:
			return // the outcome of this act is not known, so the check cannot decide
		case act.ended < s.invoked:
			opened = act
		case act.kind == "closed":
			return
		}
	}
	switch {
	case opened != nil && opened.kind == "closed":
	case opened == nil: // no act came before the message, so the room was open
		report.add(Shut, "%s was refused in %s, which nobody had closed", s.key, s.room)
	case !losses.between(opened.invoked, s.ended, history.LossState):
		report.add(Shut, "%s was refused in %s, which %s had opened", s.key, s.room, opened.key)
	}
}
