package fault

import (
	"reflect"
	"testing"
	"time"
)

var cluster = Shape{Processes: map[Role]int{Gateway: 3, Service: 2, NATS: 3}, Root: true}

func TestSameSeedGivesTheSamePlan(t *testing.T) {
	choice, err := cluster.Select("")
	if err != nil {
		t.Fatal(err)
	}
	a, b := cluster.Plan(7, time.Minute, 0, choice), cluster.Plan(7, time.Minute, 0, choice)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got %v and %v", a, b)
	}
	if c := cluster.Plan(8, time.Minute, 0, choice); reflect.DeepEqual(a, c) {
		t.Error("another seed gives the same plan")
	}
}

func TestPlanIsWithinBounds(t *testing.T) {
	choice, err := cluster.Select("all")
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []time.Duration{20 * time.Second, time.Minute, 30 * time.Minute} {
		done := map[string]int{}
		for _, s := range cluster.Plan(1, length, 0, choice) {
			done[s.String()]++
			if s.At < lead || s.At+s.For > length-trail || s.For <= 0 || s.For > most || s.Target >= cluster.Processes[s.Role] {
				t.Errorf("got %+v in %v", s, length)
			}
		}
		if len(done) == 0 || length > time.Hour/3 && len(done) != len(choice) {
			t.Errorf("got %v in %v", done, length)
		}
	}
}

func TestSelectFindsKindsRolesAndProcesses(t *testing.T) {
	tests := []struct {
		shape Shape
		only  string
		want  int // number of choices; 0 = an error
	}{
		{cluster, "kill", 3},
		{cluster, "kill nats,pause roomsvc", 2},
		{cluster, "full disk", 1},
		{cluster, "kill nats2, kill nats3", 2},
		{cluster, "kill nats4", 0},
		{cluster, "split", 1},
		{Shape{Processes: map[Role]int{Gateway: 2, Service: 2, NATS: 1}, Root: true}, "split", 0},
		{cluster, "earthquake", 0},
		{Shape{Processes: map[Role]int{Gateway: 1}, Root: true}, "cut", 0},
		{Shape{Processes: map[Role]int{Gateway: 1}, Root: true}, "full disk", 1},
		{Shape{Processes: cluster.Processes}, "cut", 0},
		{Shape{Processes: cluster.Processes}, "usual", 15},
		{Shape{Processes: cluster.Processes, Length: time.Hour}, "usual", 17},
		{cluster, "purge", 1},
		{cluster, "power loss", 0},
		{Shape{Processes: map[Role]int{Gateway: 1}, Root: true}, "purge", 0},
	}
	for _, test := range tests {
		got, err := test.shape.Select(test.only)
		if len(got) != test.want || (err == nil) != (test.want > 0) {
			t.Errorf("select %q: got %v, %v, want %d", test.only, got, err, test.want)
		}
	}
}

func TestPlanForOneProcessAndOneDuration(t *testing.T) {
	choices, err := cluster.Select("split nats2")
	if err != nil {
		t.Fatal(err)
	}
	plan := cluster.Plan(1, time.Minute, 20*time.Second, choices)
	if len(plan) == 0 {
		t.Fatal("got an empty plan")
	}
	for _, s := range plan {
		if s.Kind != Split || s.Role != NATS || s.Target != 1 || s.For != 20*time.Second {
			t.Errorf("got %+v", s)
		}
	}
}
