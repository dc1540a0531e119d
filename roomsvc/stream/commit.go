package stream

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
)

// Committer appends records to the stream. All it appends at one time leaves by one
// connection (see commitConn), which never reconnects: when it breaks, or the stream does not
// answer in time, every fence taken over it is void, and a new connection takes new fences,
// so that no straggler can slip in behind a lost one.
//
// It is safe for concurrent use.
type Committer struct {
	cfg        Config
	replicated atomic.Bool // the stream has several replicas, although cfg has one
	witness    witness

	mu     sync.Mutex  // guards conn and closed; held while a connection is opened
	conn   *commitConn // nil before the first one
	closed bool

	memory  sync.Mutex // guards what follows
	avoid   []string   // ids of servers that were of no use, the newest last
	created time.Time  // the stream, as a connection has last read it; zero = not read yet
}

// NewCommitter returns a committer; its connection is opened when the first fence is taken.
func NewCommitter(cfg Config) *Committer {
	if cfg.Lost == nil {
		cfg.Lost = func(Loss) {}
	}
	return &Committer{cfg: cfg, witness: witness{lost: cfg.Lost}}
}

// Close breaks the connection and returns when all goroutines have ended.
func (c *Committer) Close() {
	c.mu.Lock()
	l := c.conn
	c.closed = true
	c.mu.Unlock()
	if l != nil {
		l.fail(errClosed)
		l.wait.Wait()
	}
}

// open returns the connection, a new one if the last one broke.
func (c *Committer) open() (*commitConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.conn != nil && !c.conn.broken() {
		return c.conn, nil
	}
	l, err := newCommitConn(c, c.shunned())
	if err != nil {
		return nil, fmt.Errorf("open commit connection: %w", unavailable(err))
	}
	c.conn = l
	return l, nil
}

// shun keeps the next connection away from the server with this id. It also keeps it away from
// those shunned before, as long as one of the known servers remains.
func (c *Committer) shun(id string, known int) {
	c.memory.Lock()
	defer c.memory.Unlock()
	c.avoid = slices.DeleteFunc(c.avoid, func(old string) bool { return old == id })
	c.avoid = append(c.avoid, id)
	c.avoid = c.avoid[max(0, len(c.avoid)-max(0, known-1)):]
}

func (c *Committer) shunned() []string {
	c.memory.Lock()
	defer c.memory.Unlock()
	return slices.Clone(c.avoid)
}

// Sink hears what becomes of the records appended under one fence, in the order they were
// appended: Committed once for each, or, at some point, Failed once and nothing more. Records
// that were not committed by then may be in the log or not. Calls come from the committer's
// goroutines and must not block.
type Sink interface {
	Committed(stream uint64)
	Failed(err error)
}

// Fence is the right to append to a partition, until somebody else takes it or the
// connection it was taken over breaks. Append is for one goroutine, the other methods for
// any.
type Fence struct {
	Partition int
	marker    uint64    // its stream sequence
	taken     time.Time // when the marker was acknowledged
	cut       uint64    // see Cut
	seq       string    // the marker's stream sequence, in decimal
	subject   string    // of the marker
	born      wear      // of the log, when the marker was written
	conn      *commitConn
	sink      Sink
	floor     atomic.Uint64 // stream sequence of the marker, then of the last record

	mu  sync.Mutex // guards what follows
	err error      // why the fence is void
}

// Append sends rec on its way; its payload is sealed there if keys are set. It waits while
// the records of all partitions asBatch fill the next commit. An error means that the fence
// is void and that the sink hears Failed; rec was not appended.
//
// The caller must not hold a lock that its sink takes.
func (f *Fence) Append(rec *proto.Record) error {
	if err := f.Void(); err != nil {
		return err
	}
	select {
	case f.conn.queue <- entry{f, rec}:
		return nil
	case <-f.conn.broke:
		return f.conn.err
	}
}

// Floor returns a stream sequence that every record not yet committed will exceed.
func (f *Fence) Floor() uint64 { return f.floor.Load() }

// Marker returns the stream sequence of the fence's marker.
func (f *Fence) Marker() uint64 { return f.marker }

// MaxRecord returns how many bytes the payload of a record may have now: an operator may lower
// max_payload of the NATS server at any time.
func (f *Fence) MaxRecord() int { return int(f.conn.maxPayload.Load()) - headerBytes }

// Age returns how long ago the marker was acknowledged.
func (f *Fence) Age() time.Duration { return time.Since(f.taken) }

// Log reads over the connection that the fence was taken over. Another connection may have
// a server that is cut off from its peers, and whose replica does not hold the marker.
func (f *Fence) Log() *history.Log { return f.conn.log }

// Worn reports whether so much was written behind the fence's marker that the stream may
// soon drop it for space.
func (f *Fence) Worn() bool {
	limit := f.conn.c.cfg.MaxBytes
	return limit > 0 && f.conn.worn.since(f.born) > limit/wornPart
}

// committed tells the sink that the next record is at stream.
func (f *Fence) committed(stream uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.floor.Store(stream)
		f.conn.c.witness.saw(stream)
		f.sink.Committed(stream)
	}
}

func (f *Fence) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		f.sink.Failed(err)
	}
}

// Void returns why the fence is of no use any more, nil if it still is.
func (f *Fence) Void() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// unavailable wraps what NATS says about a connection or a request, so that callers need
// to know one error only.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
