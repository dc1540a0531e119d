package stream

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// way is how records get from a fence into the stream.
type way interface {
	// append sends rec, which is the n-th of f.
	append(f *Fence, rec *proto.Record, n uint64) error
	// run does what has to be done beside, until the line is broken.
	run()
}

// line is one connection to the stream's server, and the fences that were taken over it.
type line struct {
	c     *Committer
	nc    *nats.Conn
	way   way
	born  time.Time
	inbox string // prefix of the subjects that acks come to
	broke chan struct{}
	room  chan struct{} // holds a token for each unit that is on its way
	// elected hears that the stream has another leader; one in it is enough.
	elected chan *nats.Msg
	floor   atomic.Uint64 // the highest stream sequence that was acknowledged
	wait    sync.WaitGroup
	once    sync.Once
	mu      sync.Mutex // guards what follows
	err     error
	fences  [proto.Partitions]*Fence // the newest of each partition
}

// What may be on its way at one time is bounded by count and size together: a stream whose
// server cannot keep up refuses some of what comes (error 429) while it takes what comes
// after, which would leave holes. Its limits are 10,000 messages and 128 MiB, for all
// instances.
const (
	lineRoom = 2048
	roomUnit = 8 << 10 // bytes of payload that count as one record more
)

// cost returns how many units a record takes. It is bounded, so that 64 partitions which wait
// for the rest of their units cannot hold all of them.
func cost(rec *proto.Record) int { return min(24, 1+len(rec.Payload)/roomUnit) }

// saw raises the floor to seq.
func (l *line) saw(seq uint64) {
	for {
		old := l.floor.Load()
		if seq <= old || l.floor.CompareAndSwap(old, seq) {
			return
		}
	}
}

func (l *line) reserve(n int) error {
	for range n {
		select {
		case l.room <- struct{}{}:
		case <-l.broke:
			return l.err
		}
	}
	return nil
}

func (l *line) vacate(n int) {
	for range n {
		<-l.room
	}
}

func newLine(c *Committer) (*line, error) {
	l := &line{c: c, born: time.Now(), broke: make(chan struct{}), elected: make(chan *nats.Msg, 1),
		room: make(chan struct{}, lineRoom)}
	nc, err := c.cfg.Dial(
		nats.NoReconnect(),
		nats.SkipSubjectValidation(), // subjects are made of rooms that were checked
		nats.ClosedHandler(func(nc *nats.Conn) { l.fail(fmt.Errorf("%w: connection lost", ErrUnavailable)) }),
	)
	if err != nil {
		return nil, err
	}
	l.nc = nc
	l.inbox = nc.NewRespInbox() + "."
	if c.cfg.Replicas > 1 {
		_, err = nc.ChanSubscribe("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED."+proto.StreamName, l.elected)
	}
	if c.wary.Swap(false) || c.cfg.SyncAlways || c.cfg.Replicas > 1 {
		l.way = newGroup(l)
	} else {
		l.way, err = newPipeline(l)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	l.wait.Go(l.way.run)
	l.wait.Go(l.watch)
	return l, nil
}

// electedGrace is how long answers of the old leader may still take to arrive when there is
// a new one.
const electedGrace = 50 * time.Millisecond

// watch breaks the line when the stream owes an answer for too long: a server whose disk
// is full, or that has lost its quorum, answers nothing, and neither does a leader that is
// none any more.
func (l *line) watch() {
	tick := time.NewTicker(max(10*time.Millisecond, l.c.cfg.Deadline/10))
	defer tick.Stop()
	var hurry <-chan time.Time
	for {
		limit := l.c.cfg.Deadline
		select {
		case <-l.broke:
			return
		case <-l.elected:
			hurry = time.After(electedGrace)
			continue
		case <-hurry:
			limit = electedGrace
		case <-tick.C:
		}
		for p := range l.fences {
			if f := l.fence(p); f != nil && f.late(limit) {
				l.fail(fmt.Errorf("%w: no answer within %s", ErrUnavailable, limit))
			}
		}
	}
}

func (l *line) fence(p int) *Fence {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fences[p]
}

// admit makes f the fence of its partition.
func (l *line) admit(f *Fence) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.fences[f.Partition] = f
	return nil
}

func (l *line) broken() bool {
	select {
	case <-l.broke:
		return true
	default:
		return false
	}
}

// refused reports whether err says that the stream itself would not take a record, which it
// may do with the next, and takes note of that for the next line.
func (l *line) refused(err error) bool {
	var api *apiError
	if errors.Is(err, ErrLost) || !errors.As(err, &api) {
		return false
	}
	l.c.wary.Store(true)
	return true
}

// fail breaks the line: every fence is void from now on.
func (l *line) fail(err error) {
	l.once.Do(func() {
		l.mu.Lock()
		l.err = err
		fences := l.fences
		l.mu.Unlock()
		close(l.broke)
		if !errors.Is(err, errClosed) {
			l.c.cfg.Log.Warn("commit connection is given up", "error", err)
		}
		for _, f := range fences {
			if f != nil {
				f.fail(err)
			}
		}
		if l.nc != nil { // nil while dialing
			l.nc.Close()
		}
	})
}
