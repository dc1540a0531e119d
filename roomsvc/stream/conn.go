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

// commitConn is one connection to the stream's server, and the fences that were taken over it.
// Its goroutine commits what the fences append, see group.go.
type commitConn struct {
	c       *Committer
	nc      *nats.Conn
	log     *history.Log   // reads over nc
	server  string         // its id
	most    int            // records of one commit
	inbox   string         // prefix of the subjects that acks come to
	acks    chan *nats.Msg // holds what one commit is answered
	queue   chan entry     // holds what the next commit takes; a partition that fills it waits
	sweeps  chan sweep     // of the stream of snapshots
	elected chan *nats.Msg // hears that the stream has another leader; one in it is enough
	created time.Time      // the stream, see before; guarded by mu
	broke   chan struct{}  // closed by fail
	wait    sync.WaitGroup
	once    sync.Once
	worn    wearMeter
	first   chan struct{} // holds a token while a marker is written before stored is set
	stored  atomic.Bool   // the stream has stored something that came over the connection

	maxPayload atomic.Int64 // of the NATS server, as it last said

	id    string // of the connection's batches
	out   envelope
	count uint64 // of commits and rounds; run owns these two

	mu      sync.Mutex               // guards what follows
	err     error                    // set before broke is closed
	missing time.Time                // since when nothing was stored that was to be; zero = that is not so
	fences  [proto.Partitions]*Fence // the newest of each partition
}

// entry is a record on its way.
type entry struct {
	f   *Fence
	rec *proto.Record
}

// dials is how often a connection is opened in the hope of another server.
const dials = 4

// newCommitConn opens a connection. It prefers servers that are not in avoid, and takes one of
// those if it finds no other.
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
		var ours atomic.Bool // and not just a try
		nc, err := c.cfg.Dial(
			nats.NoReconnect(),
			nats.Timeout(c.cfg.Deadline),
			nats.SkipSubjectValidation(), // subjects are made of rooms that were checked
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

// before returns what is known of the log before a marker is sent. The first call on a
// connection asks the stream and the other instances.
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

// fail breaks the connection: every fence is void from now on.
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
			l.c.cfg.Log.Warn("commit connection is given up", "server", l.nc.ConnectedServerName(), "error", err)
		}
		for _, f := range fences {
			if f != nil {
				f.fail(err)
			}
		}
		l.nc.Close()
	})
}
