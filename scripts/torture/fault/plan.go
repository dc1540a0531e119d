package fault

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	lead  = 3 * time.Second  // the first fault comes after this time
	trail = 5 * time.Second  // no fault is active in this time before the end of the run
	most  = 30 * time.Second // a fault lasts at most this long

	// A split must be long enough for its effects: an election takes 4 to 9 s, and a server closes
	// a connection after two lost pings.
	leastSplit = 8 * time.Second
	mostSplit  = 25 * time.Second

	// If an instance is stopped for about the length of its lease, other instances take some of its
	// partitions, but not all.
	leastLease = 1800 * time.Millisecond
	mostLease  = 3 * time.Second
)

// Plan spreads faults of the given choices over length. It uses every choice once, in random order,
// before it uses any choice again. A quarter of the faults begin before the previous fault has
// ended. If hold is not 0, each fault lasts that long.
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
		step := Step{At: at, Kind: c.Kind, Role: c.Role, Target: r.IntN(s.Processes[c.Role]), Pick: r.Uint64()}
		switch {
		case c.Only > 0:
			step.Target = c.Only - 1
		case c.Kind == Flip:
			step.Target = int(seed % uint64(s.Processes[c.Role])) // all flips hit the same replica, so that the other replicas stay intact
		}
		step.For = lasting(r, c, longest)
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

// lasting draws how long a fault lasts. Short times are more likely than long ones. A killed
// process is started again within 5 s, as a supervisor would do it.
func lasting(r *rand.Rand, c Choice, longest time.Duration) time.Duration {
	least := 500 * time.Millisecond
	x := r.Float64()
	switch c.Kind {
	case Pause:
		if c.Role == Service && r.IntN(2) == 0 {
			return leastLease + time.Duration(x*float64(mostLease-leastLease))
		}
	case Kill, Term, Outage, Flip, Power:
		longest = min(longest, 5*time.Second)
	case Restore:
		// The standalone form writes the end of its log to the witness file once a second. After a
		// kill it knows only the position in the file.
		least, longest = 2*time.Second, 5*time.Second
	case Slow, Clock:
		least, longest = 5*time.Second, 15*time.Second
	case Split:
		least, longest = leastSplit, mostSplit
	}
	return least + time.Duration(x*x*float64(longest-least))
}
