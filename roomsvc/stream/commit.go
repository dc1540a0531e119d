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

// Committer appends records to the stream over one connection, a commitConn. The connection never
// reconnects. When it breaks, or the stream does not answer in time, all fences that were taken
// over this connection become void. The next fence is taken over a new connection. So if a record
// is lost, the stream stores no later record from the same connection.
//
// It is safe for concurrent use.
type Committer struct {
	cfg        Config
	replicated atomic.Bool // the stream has several replicas, although cfg.Replicas is 1
	witness    witness

	mu     sync.Mutex  // guards conn and closed; locked while a connection is being opened
	conn   *commitConn // nil before the first connection
	closed bool

	memory  sync.Mutex // guards the fields below
	avoid   []string   // ids of servers whose connections failed, with the newest last
	created time.Time  // when the stream was made; zero = not known
}

// NewCommitter returns a committer. The first fence opens its connection.
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

// open returns the connection. If the last connection is broken, open opens a new one.
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

// shun makes the next connection avoid the server with this id. If all known servers would then be
// avoided, shun removes the oldest from the list.
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

// Sink receives the results of the records appended under one fence. The committer calls Committed
// once for each record, in the order of Append. If the fence becomes void, the committer calls
// Failed once, and calls no method after that. The records for which Committed was not called may
// or may not be in the log. The calls come from the committer's goroutines and must not block.
type Sink interface {
	Committed(stream uint64)
	Failed(err error)
}

// Fence is the right to append to a partition. It becomes void when another instance takes the
// partition, or when the commit connection breaks. One goroutine may call Append. The other methods
// are safe for concurrent use.
type Fence struct {
	Partition int
	marker    uint64    // stream sequence of the marker
	taken     time.Time // when the marker was acknowledged
	cut       uint64    // see Cut
	seq       string    // marker, in decimal
	subject   string    // of the marker
	born      wear      // position of the marker in the log
	conn      *commitConn
	sink      Sink
	floor     atomic.Uint64 // stream sequence of the marker, then of the last record

	mu  sync.Mutex // guards err
	err error      // why the fence is void; nil = it is valid
}

// Append adds rec to the next commit. It waits while that commit is full. The payload is encrypted
// if there are keys. If Append returns an error, rec is not in the log, the fence is void, and the
// sink receives Failed.
//
// The caller must not hold a lock that a method of its sink takes, because Append may call the
// sink.
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

// Floor returns the stream sequence of the newest committed record of the fence, or of its marker.
// Every later record of the fence gets a higher one.
func (f *Fence) Floor() uint64 { return f.floor.Load() }

// Marker returns the stream sequence of the fence's marker.
func (f *Fence) Marker() uint64 { return f.marker }

// MaxRecord returns how many bytes the payload of a record may have now. An operator may change
// max_payload of the NATS server at any time.
func (f *Fence) MaxRecord() int { return int(f.conn.maxPayload.Load()) - headerBytes }

// Age returns how long ago the marker was acknowledged.
func (f *Fence) Age() time.Duration { return time.Since(f.taken) }

// Log reads the log over the fence's connection. Another connection may lead to a server that is
// cut off from its peers. That server may not have the marker.
func (f *Fence) Log() *history.Log { return f.conn.log }

// Worn reports whether the stream may soon drop the fence's marker because of the stream's size
// limit.
func (f *Fence) Worn() bool {
	limit := f.conn.c.cfg.MaxBytes
	return limit > 0 && f.conn.worn.since(f.born) > limit/wornPart
}

// committed reports to the sink that the next record is committed. The parameter stream is the
// stream sequence of the record.
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

// Void returns nil while the fence is valid. After that it returns why the fence is void.
func (f *Fence) Void() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// unavailable wraps an error of NATS in ErrUnavailable, so that callers need not know the errors of
// NATS.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
