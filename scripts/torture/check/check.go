// Package check checks whether a history of a torture run keeps the promises of Roomcast. It reads
// entries and returns a report. It does no other I/O, and does not depend on how the run was made.
//
// The check works like the log checkers of Jepsen and Maelstrom. The check compares three things:
// the commands and their answers, the events that every member received, and the log that a new
// reader found afterwards. It reads the history twice. The first time it uses only the log, which
// is at the end. The second time it checks all entries. So its memory grows with the number of
// messages and not with the number of deliveries. Each fault in a history lists the records that it
// may destroy. The system must announce each loss by a gap or a new epoch.
package check

import (
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"roomcast/scripts/torture/history"
)

// Rule names the promise that a violation breaks.
type Rule string

// The rules.
const (
	Lost       Rule = "lost"             // an acknowledged message is not in the log
	Reorder    Rule = "reorder"          // a member received events in an order that differs from the order of the log
	Skip       Rule = "skip"             // a member did not receive an event, and no gap announced that
	FIFO       Rule = "fifo"             // one sender's messages are not in the order in which they were said
	Duplicate  Rule = "duplicate"        // a message is stored twice, or a client received it twice
	Epoch      Rule = "epoch"            // no new epoch was announced after a loss, or a new epoch was announced without a loss
	Presence   Rule = "presence"         // a client received a wrong number of members
	Phantom    Rule = "phantom"          // a stored or received event was never sent, was refused, or was changed
	BadResume  Rule = "bad resume"       // the events after a join do not begin where the client asked
	AfterClose Rule = "open after close" // a message was stored in a closed room, or received from it
	Clock      Rule = "time"             // time went backwards in a room
	Shut       Rule = "shut after open"  // a message was refused as room_closed in an open room
	Stale      Rule = "stale order"      // a message was sent after the ack of an earlier message, but is stored before that message
	Stuck      Rule = "stuck"            // after the last fault, a client did not recover or a message got no answer
	Vacuous    Rule = "vacuous"          // the run has too few messages to prove anything
	Moderated  Rule = "moderation"       // an act had no effect: the log has a message of a muted sender, or a page has deleted content
	Broken     Rule = "broken history"   // the history is not valid: the torture program has made a mistake
)

// If a run does not keep these limits, it proves nothing, and the checker reports the rule Vacuous.
const (
	MinOK          = 1000 // acknowledged messages
	MaxUnknownPart = 0.20 // largest part of all messages that may have no known answer
)

// Violation is one breach of a rule. Text describes it.
type Violation struct {
	Rule Rule
	Text string
}

func (v Violation) String() string { return string(v.Rule) + ": " + v.Text }

// maxKept is how many violations of each rule a report contains. Further ones are only counted.
const maxKept = 20

// Fault sums up what happened during all faults of one kind.
type Fault struct {
	Times int
	Alone time.Duration // the longest time without an ack in which no other fault was at work
}

// Period sums up what happened while one fault was at work.
type Period struct {
	Name string // the kind and the process
	From time.Duration
	For  time.Duration
	Acks int           // number of acks in that time
	Gap  time.Duration // the longest time without an ack within that time
}

// Report is the result of a check.
type Report struct {
	Violations []Violation
	Broken     map[Rule]int // how often each rule was broken

	OK, Failed, Unknown int
	Duplicates          int // acks of a resend, which say that the message was stored before
	Deliveries          int
	Links, Resumes      int // number of connections; number of joins that continue after a seq
	Gaps                int // announced gaps
	Resets              int // how many of Gaps announced a new epoch
	Destroyed           int // acknowledged messages that a fault destroyed; a gap or a new epoch has announced each loss
	TextDeliveries      int
	Pages               int // pages of history that clients have read
	Counts              int // requests for the number of members
	Told                int // events that applications received
	Stored              int // events in the log
	Faults              map[string]Fault
	Periods             []Period
	Refusals            map[string]int // by code; without temporary refusals
	LongestAckGap       time.Duration  // longest time between two acks while some message had no answer
	AckGapFaults        int            // how many faults were at work in that time
	SlowestAck          time.Duration
}

// Kept reports whether no rule was broken.
func (r *Report) Kept() bool { return len(r.Broken) == 0 }

func (r *Report) add(rule Rule, format string, args ...any) {
	r.Broken[rule]++
	if r.Broken[rule] <= maxKept {
		r.Violations = append(r.Violations, Violation{rule, fmt.Sprintf(format, args...)})
	}
}

// Check reads a history twice and returns its report. It fails only if it cannot read.
func Check(entries iter.Seq2[history.Entry, error]) (*Report, error) {
	c := &checker{
		report:  &Report{Broken: map[Rule]int{}, Faults: map[string]Fault{}, Refusals: map[string]int{}},
		rooms:   map[string]*log{},
		says:    map[string]*say{},
		cursors: map[seat]*cursor{},
		texts:   map[seat]*text{},
		pages:   map[string]*page{},
		apps:    applications{},
		first:   first{known: map[string]map[string]int64{}, places: map[string]uint64{}},
		senders: map[string]string{},
	}
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		c.losses.learn(e)
		c.first.learn(e)
		if e.Op == history.Log {
			c.truth(e)
		}
	}
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		c.entry(e)
	}
	c.finish()
	return c.report, nil
}

// checker is the state of one check.
type checker struct {
	report  *Report
	rooms   map[string]*log
	says    map[string]*say // by key
	order   []*say          // in the order in which they were invoked
	cursors map[seat]*cursor
	texts   map[seat]*text
	pages   map[string]*page  // by client
	losses  losses            // found in the first reading
	first   first             // found in the first reading
	senders map[string]string // client -> sender
	pauses  pauses
	acts    moderation
	apps    applications
	healed  bool
	ended   bool
}

// entry processes one entry of the second reading.
func (c *checker) entry(e history.Entry) {
	switch e.Op {
	case history.Invoke:
		c.invoke(e)
	case history.OK, history.Fail, history.Unknown:
		c.answer(e)
	case history.Hello:
		c.report.Links++
		if known := c.senders[e.Client]; known != "" && known != e.Sender {
			c.report.add(Phantom, "%s was %s and has become %s on its connection %d", e.Client, known, e.Sender, e.Link)
		}
		c.senders[e.Client] = e.Sender
	case history.Join, history.Joined, history.Left, history.Recv, history.Gap, history.Told:
		c.member(e)
	case history.Ended:
		if c.ended {
			return // the run is over, and the torture program ends the connections
		}
		for p, m := range c.cursors {
			if p.client == e.Client {
				m.state = away
			}
		}
	case history.Fault:
		f := c.report.Faults[e.Why]
		f.Times++
		c.report.Faults[e.Why] = f
		s := &period{name: e.Why, key: e.Key, from: e.T, lastAck: e.T, to: math.MaxInt64}
		c.pauses.faults = append(c.pauses.faults, s)
		c.pauses.periods = append(c.pauses.periods, s)
		s.shown = Period{Name: strings.TrimSuffix(e.Why, strings.TrimRight(e.Client, "0123456789")) + e.Client, From: time.Duration(e.T)}
	case history.Over:
		for _, s := range c.pauses.faults {
			if s.key == e.Key {
				s.to = e.T + int64(time.Second)
				s.end(e.T)
			}
		}
	case history.TextOpen, history.TextRecv, history.TextEnd:
		c.text(e)
	case history.Page, history.PageRecv:
		c.page(e)
	case history.Count:
		c.count(e)
	case history.Moderate, history.Moderated, history.Look, history.Looked, history.Seen:
		c.acts.entry(e)
	case history.App:
		c.apps.entry(c, e)
	case history.Calm:
		c.calm()
	case history.Heal:
		c.healed = true
	case history.End:
		c.ended = true
		c.told()
	case history.Log:
	default:
		c.report.add(Broken, "there is no op %q", e.Op)
	}
}

// finish checks the rules that need the whole history.
func (c *checker) finish() {
	c.settle()
	if !c.losses.any() {
		c.acts.check(c.report)
	}
	c.apps.finish(c)
	for _, s := range c.pauses.periods {
		c.report.Periods = append(c.report.Periods, s.shown)
	}
	for p, m := range c.cursors {
		c.caughtUp(p, m)
	}
	for p, t := range c.texts {
		c.textCaughtUp(p, t)
	}
	for _, p := range c.pages {
		c.endOfPage(p)
	}
	r := c.report
	if !c.ended {
		r.add(Broken, "the history has no end")
	}
	all := r.OK + r.Failed + r.Unknown
	if r.OK < MinOK {
		r.add(Vacuous, "%d messages were acknowledged, at least %d are needed", r.OK, MinOK)
	}
	if float64(r.Unknown) > MaxUnknownPart*float64(all) {
		r.add(Vacuous, "%d of %d messages have no known answer, at most %.0f %% may", r.Unknown, all, 100*MaxUnknownPart)
	}
	if r.Deliveries < r.OK {
		r.add(Vacuous, "%d deliveries for %d messages: nobody was listening", r.Deliveries, r.OK)
	}
}
