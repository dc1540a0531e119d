package owner

import (
	"errors"
	"time"

	"roomcast/roomsvc/stream"
)

// ownership decides which partitions one instance takes, keeps and releases. It is pure: every
// event comes in by step together with the time, and every consequence leaves as an action. The
// scenarios in testdata show its rules. It belongs to one goroutine; see [Owner] for the I/O.
//
// Safety does not rest on it but on the fence of each partition (see package stream). It is
// responsible for progress, and for one promise: while trusted is true, no other instance has
// taken a partition that counts as owned here.
type ownership struct {
	// Static.
	id    string
	lease time.Duration
	renew time.Duration // how long a marker serves before it is written again

	parts   []partition
	chosen  []bool // by members: the partitions that should be this instance's
	members members
	until   time.Time // the lease is valid before this time
	leaving bool
	said    bool // the others can know that this instance leaves
	looking bool // a look at the leases is under way
	again   bool // another look must follow it
	tell    bool // the next look must be announced to the other instances
	pending int  // partitions that are being acquired, renewed or released
	doubted int  // partitions to be released because the lease was over while they were owned
	trouble error
}

// partition is the state of one partition.
type partition struct {
	state state
	due   time.Time     // not to be acquired before, or to be renewed from then on
	pause time.Duration // before the next attempt to acquire it
	ours  bool          // as far as is known, no other instance owns it
	cause cause         // of the release that is under way
}

// state is where a partition stands.
type state int8

const (
	foreign     state = iota // its commands are passed over, because they are another instance's
	acquiring                // its fence is being taken
	owned                    // its commands are answered
	renewing                 // its marker is written again; commands wait meanwhile
	interrupted              // its fence is void; commands wait until it is acquired again
	unavailable              // it cannot be acquired now; commands are refused, or left to another instance
	releasing                // commits under way end before another instance takes it
)

func (s state) String() string {
	return [...]string{"foreign", "acquiring", "owned", "renewing", "interrupted", "unavailable", "releasing"}[s]
}

// cause is why a partition is released. It decides what follows.
type cause int8

const (
	leaseOver cause = iota // it is acquired again at once, unless another instance has taken it
	yielded                // another instance should have it, and is left alone for a while
	requested              // another instance asked for it and waits for the answer
)

// Bounds of acquiring partitions.
const (
	maxPending = 16 // partitions acquired, renewed or released at a time
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// event is one of these types.
type event interface{ event() }

type (
	// started begins, and stopped ends what the instance takes part in.
	started struct{}
	stopped struct{}
	// ticked lets time pass. With beat, it is time for the regular look at the leases.
	ticked struct{ beat bool }
	// changed says that another instance has come or is about to leave.
	changed struct{}
	// reconnected says that the connection was away, and messages may be missed.
	reconnected struct{}
	// looked is the result of a look.
	looked struct {
		sent    time.Time // when the renewal of the lease was sent
		renewed bool
		leaving bool    // the renewal says that this instance leaves
		leases  []lease // in the bucket; only without err
		err     error
	}
	// acquired and failed are the results of acquire and renew.
	acquired struct{ p int }
	failed   struct {
		p    int
		ours bool // no other instance is known to own it
		err  error
	}
	// released is the result of release.
	released struct{ p int }
	// lost says that the fence of an owned partition is void.
	lost struct {
		p   int
		err error
	}
	// worn says that the stream may soon drop the marker of an owned partition.
	worn struct{ p int }
	// taken says that another instance has written a marker.
	taken struct {
		p  int
		by string
	}
	// asked is the request of another instance to release a partition.
	asked struct{ p int }
)

func (started) event()     {}
func (stopped) event()     {}
func (ticked) event()      {}
func (changed) event()     {}
func (reconnected) event() {}
func (looked) event()      {}
func (acquired) event()    {}
func (failed) event()      {}
func (released) event()    {}
func (lost) event()        {}
func (worn) event()        {}
func (taken) event()       {}
func (asked) event()       {}

// action is one of these types. The instance carries it out.
type action interface{ action() }

type (
	// look renews the lease, and reads those of the other instances.
	look struct{ leaving, tell bool }
	// acquire takes the fence of a partition. Its owner is asked first if it may be alive.
	acquire struct {
		p    int
		ours bool
	}
	// renew writes the marker of an owned partition again.
	renew struct{ p int }
	// release stops answering, and finishes what is under way.
	release struct{ p int }
	// refuse has the commands of a partition refused, or passed over if it is not ours.
	refuse struct {
		p    int
		ours bool
	}
	// answer tells the instance that asked for a partition that it is free.
	answer struct{ p int }
	// report logs something that an operator may need to know.
	report struct {
		p    int // -1 = all
		what string
		by   string // another instance, if it is about one
		err  error
	}
)

func (look) action()    {}
func (acquire) action() {}
func (renew) action()   {}
func (release) action() {}
func (refuse) action()  {}
func (answer) action()  {}
func (report) action()  {}

var (
	errStarting = errors.New("the partitions are being taken")
	// errNoLease: only an instance that has a lease takes partitions.
	errNoLease = errors.New("the lease cannot be renewed")
)

func newOwnership(cfg Config, partitions int) *ownership {
	o := &ownership{
		id: cfg.ID, lease: cfg.Lease, renew: cfg.Renew,
		parts: make([]partition, partitions), chosen: make([]bool, partitions), trouble: errStarting,
	}
	for p := range o.chosen {
		o.chosen[p] = true
	}
	return o
}

// trusted reports whether no other instance can have taken a partition that is owned here.
func (o *ownership) trusted(now time.Time) bool { return now.Before(o.until) && o.doubted == 0 }

// held returns how many partitions are owned.
func (o *ownership) held() (n int) {
	for p := range o.parts {
		if o.parts[p].state == owned {
			n++
		}
	}
	return n
}

// handedOver reports whether an instance that leaves has nothing left that another one could
// ask for.
func (o *ownership) handedOver(connected bool) bool {
	return o.leaving && o.said && o.pending == 0 && (o.held() == 0 || o.members.alone(o.id) || !connected)
}

// isLost reports whether err says that another instance has taken the partition.
func isLost(err error) bool { return errors.Is(err, stream.ErrLost) }
