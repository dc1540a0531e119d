package owner

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"roomcast/roomsvc/scenariotest"
	"roomcast/roomsvc/stream"
)

// TestScenarios plays testdata/*.txt; see [scenariotest.Play]. A command is an event. The outcome
// lists the actions of the instance and the states of the partitions.
//
// The instance is called a. Its lease lasts 2 s, and there are four partitions. When a and b are
// alive, a should own 1 and 3.
func TestScenarios(t *testing.T) {
	scenariotest.Play(t, func(t *testing.T) func(string) string {
		s := &stage{now: time.Unix(0, 0), renewals: map[string]uint64{}}
		s.own = newOwnership(Config{ID: "a", Lease: 2 * time.Second, Renew: time.Hour}, 4)
		return func(line string) string { return s.play(t, strings.Fields(line)) }
	})
}

// stage is an instance in a scenario.
type stage struct {
	own      *ownership
	now      time.Time
	renewals map[string]uint64 // the newest renewal of each instance
	stored   uint64
}

// play applies one line and returns the resulting actions and states.
func (s *stage) play(t *testing.T, words []string) string {
	var actions []action
	for _, e := range s.events(t, words) {
		actions = append(actions, s.own.step(e, s.now)...)
	}
	var out strings.Builder
	for _, a := range actions {
		fmt.Fprintln(&out, describe(a))
	}
	for p := range s.own.parts {
		if p > 0 {
			out.WriteString(", ")
		}
		fmt.Fprint(&out, p, " ", s.own.parts[p].state)
	}
	if !s.now.Before(s.own.trusted()) {
		out.WriteString("; answers nothing from memory")
	}
	return out.String()
}

func (s *stage) events(t *testing.T, words []string) (events []event) {
	t.Helper()
	args := words[1:]
	numbers := func() (ps []int) {
		for _, arg := range args {
			if p, err := strconv.Atoi(arg); err == nil {
				ps = append(ps, p)
			}
		}
		return ps
	}
	err := stream.ErrUnavailable
	if len(args) > 0 && args[len(args)-1] == "lost" {
		err = stream.ErrLost
	}
	switch words[0] {
	case "start":
		return []event{started{}}
	case "stop":
		return []event{stopped{}}
	case "wait":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			t.Fatal(err)
		}
		s.now = s.now.Add(d)
		return []event{ticked{}}
	case "beat":
		return []event{ticked{beat: true}}
	case "changed":
		return []event{changed{}}
	case "reconnected":
		return []event{reconnected{}}
	case "looked":
		return []event{s.looked(args)}
	case "acquired", "released", "worn":
		for _, p := range numbers() {
			s.possible(t, words[0], p)
			events = append(events, map[string]event{"acquired": acquired{p}, "released": released{p}, "worn": worn{p}}[words[0]])
		}
	case "failed":
		for _, p := range numbers() {
			s.possible(t, words[0], p)
			events = append(events, failed{p, err != stream.ErrLost, err})
		}
	case "lost":
		for _, p := range numbers() {
			events = append(events, lost{p, err})
		}
	case "taken":
		return []event{taken{numbers()[0], args[1]}}
	case "asked":
		return []event{asked{numbers()[0]}}
	default:
		t.Fatalf("there is no event %q", words[0])
	}
	return events
}

// possible fails the test if the instance does not wait for the given result of partition p.
func (s *stage) possible(t *testing.T, result string, p int) {
	t.Helper()
	is := s.own.parts[p].state
	if result == "released" && is != releasing || result != "worn" && result != "released" && is != acquiring && is != renewing {
		t.Fatalf("partition %d is %s: it cannot be %s", p, is, result)
	}
}

// looked makes the event looked, which is the result of the action look. In its arguments, "a"
// means that instance a has renewed its lease, "b?" that b has not renewed its lease, and "b!" that
// b is leaving. "renewal fails" and "list fails" stand for errors.
func (s *stage) looked(args []string) looked {
	e := looked{sent: s.now, renewed: true, leaving: s.own.leaving}
	if len(args) == 2 && args[1] == "fails" {
		e.renewed, e.err = args[0] == "list", errors.New(args[0]+" fails")
		return e
	}
	for _, name := range args {
		id := strings.TrimRight(name, "?!")
		if !strings.HasSuffix(name, "?") {
			s.stored++
			s.renewals[id] = s.stored
		}
		leaving := strings.HasSuffix(name, "!")
		e.leases = append(e.leases, lease{instance{ID: id, Leaving: leaving, Lease: 2 * time.Second}, s.renewals[id], s.now})
	}
	return e
}

func describe(a action) string {
	switch a := a.(type) {
	case look:
		out := "look at the leases"
		if a.leaving {
			out += ", say that a leaves"
		}
		if a.tell {
			out += ", tell the others to look"
		}
		return out
	case acquire:
		return fmt.Sprint("acquire ", a.p)
	case renew:
		return fmt.Sprint("renew the marker of ", a.p)
	case release:
		return fmt.Sprint("release ", a.p)
	case refuse:
		if a.ours {
			return fmt.Sprint("refuse the commands of ", a.p)
		}
		return fmt.Sprintf("pass over the commands of %d, which another instance may answer", a.p)
	case answer:
		return fmt.Sprintf("answer that %d is free", a.p)
	case report:
		out := "report: " + a.what
		if a.by != "" {
			out += " (" + a.by + ")"
		}
		if a.err != nil {
			out += ": " + a.err.Error()
		}
		return out
	}
	return "?"
}
