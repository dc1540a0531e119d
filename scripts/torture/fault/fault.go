// Package fault decides what is done to a running system, and when. It is pure: the same
// seed and shape give the same plan.
package fault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is something that can be done to a process.
type Kind string

// The kinds.
const (
	Kill     Kind = "kill"      // SIGKILL, started again after For
	Term     Kind = "term"      // SIGTERM, started again after For
	LameDuck Kind = "lame duck" // SIGUSR2, then SIGTERM after For, then started again
	Pause    Kind = "pause"     // SIGSTOP, SIGCONT after For
	Cut      Kind = "cut"       // what goes between it and the servers is dropped, both ways
	CutIn    Kind = "cut in"    // only what comes to it
	CutOut   Kind = "cut out"   // only what it sends
	Split    Kind = "split"     // only what goes between it and the other servers; clients still reach all of them
	Full     Kind = "full disk" // its disk is full for For; then it is started again
	Outage   Kind = "outage"    // all of the role are killed at once, and started again after For
)

// Role is what a process does.
type Role string

// The roles.
const (
	Gateway Role = "gateway"
	Service Role = "roomsvc"
	NATS    Role = "nats"
)

// Step is one fault.
type Step struct {
	At     time.Duration // from the beginning of the run
	For    time.Duration
	Kind   Kind
	Role   Role
	Target int // which process of the role, counted from 0
}

// Process names the process that the step hits, as the rig does.
func (s Step) Process() string { return fmt.Sprintf("%s%d", s.Role, s.Target+1) }

// Choice is a kind of fault that a plan may contain.
type Choice struct {
	Kind Kind
	Role Role
	Only int // the only process that it hits, counted from 1; 0 = any
}

// String names the choice as [Shape.Select] takes it.
func (c Choice) String() string { return fmt.Sprintf("%s %s", c.Kind, c.Role) }

// String describes the step as the history and the summary have it.
func (s Step) String() string { return fmt.Sprintf("%s %s", s.Kind, s.Role) }

// Shape is the system a plan is made for.
type Shape struct {
	Processes map[Role]int
	Root      bool // network and disk faults can be done
}

// possible returns the kinds of fault that can be done to a role, in a fixed order.
func (s Shape) possible(r Role) []Kind {
	if s.Processes[r] == 0 {
		return nil
	}
	kinds := []Kind{Kill, Pause, Term}
	alone := len(s.Processes) == 1
	if r == NATS {
		kinds = append(kinds, LameDuck)
		if s.Processes[r] > 1 {
			kinds = append(kinds, Outage)
		}
	}
	if s.Root && !alone {
		kinds = append(kinds, Cut, CutIn, CutOut)
		if r == NATS && s.Processes[r] > 1 {
			kinds = append(kinds, Split)
		}
	}
	if s.Root && (r == NATS || alone) {
		kinds = append(kinds, Full)
	}
	return kinds
}

// Select returns the possible choices that only names: a comma-separated list of kinds such
// as "kill", of kinds with a role such as "kill nats", or of kinds with one process such as
// "kill nats2"; "all" or nothing names every choice. A name that fits no choice is an error.
func (s Shape) Select(only string) ([]Choice, error) {
	var all []Choice
	for _, r := range []Role{Gateway, Service, NATS} {
		for _, k := range s.possible(r) {
			all = append(all, Choice{Kind: k, Role: r})
		}
	}
	if only == "" || only == "all" {
		return all, nil
	}
	var kept []Choice
	for name := range strings.SplitSeq(only, ",") {
		name = strings.TrimSpace(name)
		n := len(kept)
		for _, c := range all {
			if name == string(c.Kind) || name == c.String() {
				kept = append(kept, c)
				continue
			}
			for i := range s.Processes[c.Role] {
				if name == fmt.Sprintf("%s%d", c, i+1) {
					c.Only = i + 1
					kept = append(kept, c)
				}
			}
		}
		if len(kept) == n {
			return nil, fmt.Errorf("the fault %q cannot be done here; there are %s (network and disk faults need root)", name, names(all))
		}
	}
	return kept, nil
}

func names(choices []Choice) string {
	var list []string
	for _, c := range choices {
		list = append(list, c.String())
	}
	return strings.Join(list, ", ")
}

const (
	lead  = 3 * time.Second  // without faults at the beginning
	trail = 5 * time.Second  // and at the end
	most  = 30 * time.Second // a fault lasts at most this long

	// A split shorter than an election (4-9 s) or than two lost pings shows little.
	leastSplit = 8 * time.Second
	mostSplit  = 25 * time.Second
)

// Plan spreads faults of the given choices over length. Every choice comes once, in random
// order, before any comes again. A quarter begin before the one before has ended. If hold is
// not 0, each fault lasts that long.
func (s Shape) Plan(seed uint64, length, hold time.Duration, choices []Choice) []Step {
	if len(choices) == 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, 0))
	longest := min(most, max(length/12, time.Second))
	var plan []Step
	var deck []Choice
	for at := lead; ; {
		if len(deck) == 0 {
			deck = slices.Clone(choices)
			r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		c := deck[0]
		deck = deck[1:]
		step := Step{At: at, Kind: c.Kind, Role: c.Role, Target: r.IntN(s.Processes[c.Role])}
		if c.Only > 0 {
			step.Target = c.Only - 1
		}
		step.For = lasting(r, step.Kind, longest)
		if hold > 0 {
			step.For = hold
		}
		if step.At+step.For > length-trail {
			return plan
		}
		plan = append(plan, step)
		at += time.Second + time.Duration(r.Int64N(int64(2*time.Second)))
		if r.IntN(4) != 0 {
			at += step.For
		}
	}
}

// lasting draws how long a fault lasts: short ones are more likely than long ones, and a
// killed process is never away for more than 5 s, as under a supervisor.
func lasting(r *rand.Rand, k Kind, longest time.Duration) time.Duration {
	least := 500 * time.Millisecond
	switch k {
	case Kill, Term, Outage:
		longest = min(longest, 5*time.Second)
	case Split:
		least, longest = leastSplit, mostSplit
	}
	x := r.Float64()
	return least + time.Duration(x*x*float64(longest-least))
}
