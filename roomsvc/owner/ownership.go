package owner

import (
	"errors"
	"time"

	"roomcast/roomsvc/stream"
)

// ownership decides which partitions one instance takes, keeps and releases. It does no I/O: step
// receives an event and the time, and returns actions. The scenarios in testdata show its rules. It
// belongs to one goroutine; see [Owner] for the I/O.
//
// Safety rests on the fence of each partition (see package stream). This type is responsible for
// progress: each partition soon has an owner. It also makes one promise: until the time that
// trusted returns, no other instance takes a partition that this instance owns.
type ownership struct {
	// Static.
	id    string
	lease time.Duration
	renew time.Duration // age at which a marker is written again

	parts   []partition
	chosen  []bool // the partitions that this instance should own, according to peers
	peers   peers
	until   time.Time // end of the lease
	leaving bool
	said    bool  // this instance has tried to tell the others that it leaves
	looking bool  // the action look has begun and has no result yet
	again   bool  // start the action look again when the present look has its result
	tell    bool  // with the next look, tell the other instances to look too
	pending int   // partitions that are acquiring, renewing or releasing
	doubted int   // partitions that were owned when the lease expired, and are not released yet
	trouble error // why some chosen partitions are not owned; nil = all are owned
}

// partition is the state of one partition.
type partition struct {
	state state
	due   time.Time     // foreign, interrupted, unavailable: when to acquire the partition; owned: when to renew it
	pause time.Duration // before the next attempt to acquire the partition
	ours  bool          // no other instance is known to own it
	cause cause         // releasing: why

	// What has happened since the instance began to take or renew the fence.
	rival bool // acquiring, renewing: another instance has written a marker, so this fence may be void already
	asked bool // acquiring, renewing: another instance has asked for the partition, and waits for an answer
}

// state is the state of a partition for one instance.
type state int8

const (
	foreign     state = iota // the instance ignores the partition's commands, because another instance answers them
	acquiring                // the instance is taking the fence; commands wait
	owned                    // the instance answers commands
	renewing                 // the instance is writing the marker again; commands wait
	interrupted              // the fence is void; commands wait until the instance has a new fence
	unavailable              // the instance could not take the fence; it refuses commands, or ignores them if another instance owns the partition
	releasing                // the instance waits for the last commits; then another instance may take the partition
)

func (s state) String() string {
	return [...]string{"foreign", "acquiring", "owned", "renewing", "interrupted", "unavailable", "releasing"}[s]
}

// cause is the reason of a release. It decides what the instance does when the release is done.
type cause int8

const (
	leaseOver cause = iota // the lease expired: the instance acquires the partition again at once
	yielded                // another instance should own the partition: this instance does not acquire it for half a lease
	requested              // another instance has asked for the partition: this instance answers, and does not acquire it for half a lease
)

// Bounds of acquiring partitions.
const (
	maxPending = 16 // partitions that are acquiring, renewing or releasing
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// event is one of these types.
type event interface{ event() }

type (
	// started is the first event; stopped says that the instance must leave.
	started struct{}
	stopped struct{}
	// ticked says that time has passed. If beat is set, the regular look is due too.
	ticked struct{ beat bool }
	// changed says that another instance has started or is about to leave.
	changed struct{}
	// reconnected says that the connection was broken, so the instance may have missed messages.
	reconnected struct{}
	// looked is the result of the action look.
	looked struct {
		sent    time.Time // when the renewal of the lease was sent
		renewed bool
		leaving bool    // the renewal announced that this instance leaves
		leases  []lease // in the bucket; only without err
		err     error
	}
	// acquired and failed are the possible results of the actions acquire and renew.
	acquired struct{ p int }
	failed   struct {
		p    int
		ours bool // no other instance is known to own it
		err  error
	}
	// released is the result of release.
	released struct{ p int }
	// lost says that the fence of an owned partition has become void.
	lost struct {
		p   int
		err error
	}
	// worn says that the stream may soon drop the marker of an owned partition because of its size
	// limit.
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
	// look renews the lease of this instance, and reads the leases of all instances. With leaving,
	// the new lease says that this instance leaves. With tell, the instance asks the others to look
	// too.
	look struct{ leaving, tell bool }
	// acquire takes the fence of a partition. If the present owner may be alive, acquire first asks
	// it to release the partition.
	acquire struct {
		p    int
		ours bool
	}
	// renew writes the marker of an owned partition again.
	renew struct{ p int }
	// release stops answering the commands of a partition, and waits for the last commits.
	release struct{ p int }
	// refuse refuses the commands of a partition. If ours is false, it ignores the commands,
	// because another instance may own the partition and answer them.
	refuse struct {
		p    int
		ours bool
	}
	// answer tells the instance that has asked for a partition that nobody owns it now.
	answer struct{ p int }
	// report logs something that an operator may need to know.
	report struct {
		p    int // -1 = all
		what string
		by   string // another instance; may be ""
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
	// errNoLease is why an instance whose lease has expired takes no partitions.
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

// trusted returns a time. Until that time, no other instance can have taken a partition of this
// instance. The zero time means that another instance may already have taken a partition.
func (o *ownership) trusted() time.Time {
	if o.doubted > 0 {
		return time.Time{}
	}
	return o.until
}

// held returns how many partitions are owned.
func (o *ownership) held() (n int) {
	for p := range o.parts {
		if o.parts[p].state == owned {
			n++
		}
	}
	return n
}

// handedOver reports whether an instance that leaves can stop now. It can stop if it owns nothing,
// or if no other instance can ask for its partitions.
func (o *ownership) handedOver(connected bool) bool {
	return o.leaving && o.said && o.pending == 0 && (o.held() == 0 || o.peers.alone(o.id) || !connected)
}

// isLost reports whether err says that another instance has taken the partition.
func isLost(err error) bool { return errors.Is(err, stream.ErrLost) }
