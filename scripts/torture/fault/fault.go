// Package fault plans which faults are injected into a running system, and when. It does no I/O,
// and the same seed and shape give the same plan.
package fault

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"roomcast/scripts/torture/history"
)

// Kind is a kind of fault.
type Kind string

// The kinds. In these comments, "it" is the process that the fault hits, and For is the length of
// the step.
const (
	Kill     Kind = "kill"      // SIGKILL, started again after For
	Term     Kind = "term"      // SIGTERM, started again after For
	LameDuck Kind = "lame duck" // SIGUSR2, then SIGTERM after For, then started again
	Pause    Kind = "pause"     // SIGSTOP, SIGCONT after For
	Cut      Kind = "cut"       // the network drops all packets between it and the servers
	CutIn    Kind = "cut in"    // the network drops only the packets to it
	CutOut   Kind = "cut out"   // the network drops only the packets from it
	Split    Kind = "split"     // the network drops the packets between the server and the other servers; clients still reach all servers
	Full     Kind = "full disk" // the disk of the process is full for For; then the process is started again
	Outage   Kind = "outage"    // all processes of the role are killed at the same time, and started again after For

	Restore Kind = "restore"    // after For, all processes of the role restart with the copy of the log that was made before
	Power   Kind = "power loss" // after For, all processes of the role lose the data that they have not synced
	Flip    Kind = "flip"       // it is stopped, one bit in its files of the log is changed, and it is started again
	Trim    Kind = "trim"       // the oldest records of every room are removed, as an operator can do it
	Purge   Kind = "purge"      // all records are removed
	Edit    Kind = "edit"       // for For, the stream keeps only few records of each room, as after the command nats stream edit
	Clock   Kind = "clock"      // its wall clock is wrong for For
	Slow    Kind = "slow"       // it reads a few bytes a second for For
)

// Role is the kind of a process.
type Role string

// The roles.
const (
	Gateway Role = "gateway"
	Service Role = "roomsvc"
	NATS    Role = "nats"
	Client  Role = "member"
)

// Step is one fault of a plan.
type Step struct {
	At     time.Duration // from the beginning of the run
	For    time.Duration
	Kind   Kind
	Role   Role
	Target int    // number of the process among the processes of the role, from 0
	Pick   uint64 // a random number for further choices
}

// usually reports whether a run without -faults includes c. It excludes Flip in a cluster: readers
// of the damaged replica receive a gap, although other replicas have the record.
func (s Shape) usually(c Choice) bool {
	return Usually(c.Kind, s.Length) && (c.Kind != Flip || s.Processes[NATS] < 2)
}

// Usually reports whether a run of this length without -faults may include faults of kind k. Short
// runs leave out Clock, because it needs a special build of the programs, which takes minutes.
func Usually(k Kind, length time.Duration) bool { return k != Clock || length >= clockLength }

// clockLength is the shortest length of a run without -faults that includes Clock.
const clockLength = 5 * time.Minute

// Process returns the name that the rig gives to the process that the step hits.
func (s Step) Process() string { return fmt.Sprintf("%s%d", s.Role, s.Target+1) }

// Choice is a kind of fault that a plan may contain.
type Choice struct {
	Kind Kind
	Role Role
	Only int // number of the process that the fault hits, from 1; 0 = any process of the role
}

// String returns the choice in the form that [Shape.Select] accepts.
func (c Choice) String() string { return fmt.Sprintf("%s %s", c.Kind, c.Role) }

// String describes the step for the history and the summary.
func (s Step) String() string { return fmt.Sprintf("%s %s", s.Kind, s.Role) }

// Shape describes the system for which a plan is made.
type Shape struct {
	Processes map[Role]int // number of processes of each role; members count as processes
	Root      bool         // the run has the rights of root, so network and disk faults are possible
	Disks     bool         // disks can lose power
	Synced    bool         // every record is synced to disk before it is acknowledged
	Length    time.Duration
}

// alone reports whether one process contains the whole system.
func (s Shape) alone() bool { return s.Processes[NATS] == 0 }

// possible returns the kinds of fault that can hit a role, in a fixed order.
func (s Shape) possible(r Role) []Kind {
	if s.Processes[r] == 0 {
		return nil
	}
	if r == Client {
		return []Kind{Slow}
	}
	kinds := []Kind{Kill, Pause, Term}
	if r == NATS {
		kinds = append(kinds, LameDuck, Trim, Purge, Edit)
		if s.Processes[r] > 1 {
			kinds = append(kinds, Outage)
		}
	} else {
		kinds = append(kinds, Clock)
	}
	if s.Root && !s.alone() {
		kinds = append(kinds, Cut, CutIn, CutOut)
		if r == NATS && s.Processes[r] > 1 {
			kinds = append(kinds, Split)
		}
	}
	if r == NATS || s.alone() {
		kinds = append(kinds, Restore, Flip)
		if s.Root {
			kinds = append(kinds, Full)
		}
		if s.Disks {
			kinds = append(kinds, Power)
		}
	}
	return kinds
}

// Loss returns the records that a fault of kind k may destroy.
func (s Shape) Loss(k Kind) history.Loss {
	switch k {
	case Restore:
		return history.LossEnd + " " + history.LossState
	case Power:
		if !s.Synced {
			return history.LossEnd + " " + history.LossState
		}
		return history.LossShown // the server sends a record to gateways before it has synced it
	case Flip:
		if s.Processes[NATS] == 0 {
			return history.LossEnd + " " + history.LossHole + " " + history.LossAll + " " + history.LossLast
		} else if s.Processes[NATS] < 2 {
			return history.LossEnd + " " + history.LossHole + " " + history.LossAll
		}
	case Trim, Edit:
		return history.LossStart
	case Purge:
		return history.LossAll
	}
	return ""
}

// Select parses the comma-separated list only and returns its choices. An item is a kind ("kill"),
// a kind and a role ("kill nats"), or a kind and a process ("kill nats2"). The list "all" means
// every possible choice. The lists "" and "usual" mean the choices of a run without -faults. Select
// returns an error for an item that matches no possible choice.
func (s Shape) Select(only string) ([]Choice, error) {
	var all []Choice
	for _, r := range []Role{Gateway, Service, NATS, Client} {
		for _, k := range s.possible(r) {
			all = append(all, Choice{Kind: k, Role: r})
		}
	}
	switch only {
	case "all":
		return all, nil
	case "", "usual":
		return slices.DeleteFunc(all, func(c Choice) bool { return !s.usually(c) }), nil
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
			return nil, fmt.Errorf("the fault %q is not possible here; the possible ones are %s (network and disk faults need root)", name, names(all))
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
