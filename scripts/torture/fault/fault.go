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
	Target int // which process of the role
}

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
	}
	if s.Root && (r == NATS || alone) {
		kinds = append(kinds, Full)
	}
	return kinds
}

// Select keeps of all that is possible what only asks for: a comma-separated list of kinds,
// "all" or nothing for everything. What is asked for and cannot be done is an error.
func (s Shape) Select(only string) ([]Step, error) {
	var all []Step
	for _, r := range []Role{Gateway, Service, NATS} {
		for _, k := range s.possible(r) {
			all = append(all, Step{Kind: k, Role: r})
		}
	}
	if only == "" || only == "all" {
		return all, nil
	}
	var kept []Step
	for name := range strings.SplitSeq(only, ",") {
		name = strings.TrimSpace(name)
		n := len(kept)
		for _, step := range all {
			if name == string(step.Kind) || name == step.String() {
				kept = append(kept, step)
			}
		}
		if len(kept) == n {
			return nil, fmt.Errorf("the fault %q cannot be done here; there are %s (network and disk faults need root)", name, names(all))
		}
	}
	return kept, nil
}

func names(steps []Step) string {
	var list []string
	for _, s := range steps {
		list = append(list, s.String())
	}
	return strings.Join(list, ", ")
}

const (
	lead  = 3 * time.Second  // without faults at the beginning
	trail = 5 * time.Second  // and at the end
	most  = 30 * time.Second // a fault lasts at most this long
)

// Plan spreads faults of the given choice over length. Every one of the choice comes once,
// in random order, before any comes again. A quarter begin before the one before has ended.
func (s Shape) Plan(seed uint64, length time.Duration, choice []Step) []Step {
	if len(choice) == 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, 0))
	longest := min(most, max(length/12, time.Second))
	var plan, deck []Step
	for at := lead; ; {
		if len(deck) == 0 {
			deck = slices.Clone(choice)
			r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		step := deck[0]
		deck = deck[1:]
		step.At, step.Target = at, r.IntN(s.Processes[step.Role])
		step.For = lasting(r, step.Kind, longest)
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
	if k == Kill || k == Term || k == Outage {
		longest = min(longest, 5*time.Second)
	}
	x := r.Float64()
	return time.Duration(x*x*float64(longest-500*time.Millisecond)) + 500*time.Millisecond
}
