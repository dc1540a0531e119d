package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
)

// commitConn is one connection to a NATS server. It also has the fences that were taken over this
// connection. Its goroutine commits the records of these fences; see batch.go.
type commitConn struct {
	// static
	c       *Committer
	nc      *nats.Conn
	log     *history.Log   // reads over nc
	server  string         // id of the NATS server
	most    int            // largest number of records in one commit
	inbox   string         // prefix of the reply subjects of commits
	id      string         // prefix of the ids of batches
	acks    chan *nats.Msg // holds the answers to one commit
	queue   chan entry     // holds the records of the next commit; Append waits while it is full
	sweeps  chan sweep     // holds maxSweeps; see sweepLater
	elected chan *nats.Msg // receives a message when the stream elects a leader; holds one, more are dropped
	broke   chan struct{}  // closed by fail
	wait    sync.WaitGroup
	once    sync.Once

	// safe for concurrent use
	worn       wearMeter
	first      chan struct{} // semaphore with which enter admits one marker at a time
	stored     atomic.Bool   // the stream has stored a message that came over this connection
	maxPayload atomic.Int64  // max_payload of the NATS server

	// owned by run
	out   envelope
	count uint64 // commits and rounds so far

	mu      sync.Mutex               // guards the fields below
	err     error                    // why the connection broke; set before broke is closed
	created time.Time                // when the stream was made; zero = not read yet
	missing time.Time                // when the first of the failed attempts began; zero = none has failed since the stream last stored a message
	fences  [proto.Partitions]*Fence // the newest of each partition
}

// entry is a record that waits for its commit.
type entry struct {
	f   *Fence
	rec *proto.Record
}

// dials is how often newCommitConn dials to find a server that is not in avoid.
const dials = 4

// newCommitConn opens a connection. It uses a server in avoid only if it finds no other server.
func newCommitConn(c *Committer, avoid []string) (*commitConn, error) {
	most := maxBatch
	if c.cfg.Replicas > 1 {
		most = maxReplicated
	}
	l := &commitConn{
		c: c, most: most, id: rand.Text()[:10], broke: make(chan struct{}), first: make(chan struct{}, 1), elected: make(chan *nats.Msg, 1),
		acks: make(chan *nats.Msg, 2*most), queue: make(chan entry, most), sweeps: make(chan sweep, maxSweeps),
	}
	for try := 1; ; try++ {
		var ours atomic.Bool // this attempt succeeded, so its connection is in use
		nc, err := c.cfg.Dial(
			nats.NoReconnect(),
			nats.Timeout(c.cfg.Deadline),
			nats.SkipSubjectValidation(), // all subjects are valid, because they are built from a proto.Room
			nats.ClosedHandler(func(*nats.Conn) {
				if ours.Load() {
					l.fail(errGone)
				}
			}),
		)
		if err != nil {
			return nil, err
		}
		if try == dials || len(nc.Servers()) < 2 || !slices.Contains(avoid, nc.ConnectedServerId()) {
			l.nc, l.server = nc, nc.ConnectedServerId()
			ours.Store(true)
			break
		}
		nc.Close()
	}
	l.maxPayload.Store(l.nc.MaxPayload())
	l.log = history.New(l.nc, c.cfg.Keys)
	l.log.Damaged = c.cfg.Damaged
	l.inbox = l.nc.NewRespInbox() + "."
	_, err := l.nc.ChanSubscribe(l.inbox+">", l.acks)
	if err == nil && c.cfg.Replicas > 1 {
		_, err = l.nc.ChanSubscribe("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED."+proto.StreamName, l.elected)
	}
	if err == nil && l.nc.IsClosed() {
		err = errGone
	}
	if err != nil {
		l.nc.Close()
		return nil, err
	}
	l.wait.Go(l.run)
	l.wait.Go(l.runSweeps)
	if c.cfg.MaxBytes > 0 {
		l.wait.Go(l.measure)
	}
	return l, nil
}

// before is called before a marker is written. It returns the witness, and the time at which the
// stream was made. The first call on a connection reads both from the streams.
func (l *commitConn) before(ctx context.Context) (known proto.Witness, created time.Time, err error) {
	l.mu.Lock()
	created = l.created
	l.mu.Unlock()
	if created.IsZero() {
		stored, _, err := readWitness(ctx, l.nc)
		if err != nil {
			return known, created, err
		}
		if created, err = l.c.createdAt(ctx, l.nc); err != nil {
			return known, created, err
		}
		l.c.witness.merge(stored)
		l.mu.Lock()
		l.created = created
		l.mu.Unlock()
	}
	return l.c.witness.view(), created, nil
}

// admit makes f the fence of its partition.
func (l *commitConn) admit(f *Fence) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.fences[f.Partition] = f
	return nil
}

func (l *commitConn) broken() bool {
	select {
	case <-l.broke:
		return true
	default:
		return false
	}
}

var (
	errGone   = fmt.Errorf("%w: connection lost", ErrUnavailable)
	errSilent = fmt.Errorf("%w: no answer in time", ErrUnavailable)
)

// fail closes the connection and makes all its fences void.
func (l *commitConn) fail(err error) {
	l.once.Do(func() {
		l.mu.Lock()
		l.err = err
		fences := l.fences
		l.mu.Unlock()
		if away(err) || errors.Is(err, errGone) {
			l.c.shun(l.server, len(l.nc.Servers()))
		}
		close(l.broke)
		if !errors.Is(err, errClosed) {
			l.c.cfg.Log.Warn("gave up commit connection", "server", l.nc.ConnectedServerName(), "error", err)
		}
		for _, f := range fences {
			if f != nil {
				f.fail(err)
			}
		}
		l.nc.Close()
	})
}
