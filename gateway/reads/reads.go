// Package reads reads the log for the other packages of the gateway.
//
// Event loops and feeds must not wait for NATS. So a fixed number of worker goroutines performs
// the reads. The pages that they return count in the gateway's memory budget until their users
// release them.
package reads

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/limit"
	"roomcast/proto"
	"roomcast/proto/history"
)

const (
	workers  = 32              // goroutines, and therefore reads at the same time
	maxJobs  = 1 << 14         // reads that wait for a worker; further reads are refused as overloaded
	readTime = 5 * time.Second // time limit of one read; a stream that has lost its leader may answer late
)

// Config configures a Reader.
type Config struct {
	Log    *slog.Logger
	Memory *limit.Budget // pages count as limit.Pages
}

// Stats contains a reader's counters. It is safe for concurrent use.
type Stats struct {
	Reads   atomic.Uint64 // calls of Read
	Shared  atomic.Uint64 // calls of Read that shared the page of an equal call
	Refused atomic.Uint64 // reads refused because too many waited or there was no memory
}

// Reader reads the log. Its methods are safe for concurrent use. A method with a callback does
// not block. It calls the callback once, from a worker or before it returns.
type Reader struct {
	cfg   Config
	stats *Stats
	jobs  chan func(context.Context)

	log *history.Log // set by Run before the first read
	nc  *nats.Conn   // the connection that log uses

	mu      sync.Mutex // guards the fields below
	ended   bool       // the workers have ended
	pending map[history.Query][]func(Page, error)

	failed atomic.Pointer[failed] // why the gateway cannot read the log; nil = it can read the log
}

// New returns a reader. Its reads wait until Run is called.
func New(cfg Config) *Reader {
	return &Reader{
		cfg: cfg, stats: new(Stats), jobs: make(chan func(context.Context), maxJobs),
		pending: make(map[history.Query][]func(Page, error)),
	}
}

// Stats returns the reader's counters.
func (r *Reader) Stats() *Stats { return r.stats }

// Run reads log over nc until ctx ends. Then it runs the waiting jobs with a context that has
// ended, so that they fail.
func (r *Reader) Run(ctx context.Context, log *history.Log, nc *nats.Conn) {
	r.log, r.nc = log, nc
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case job := <-r.jobs:
					limited, cancel := context.WithTimeout(ctx, readTime)
					job(limited)
					cancel()
				}
			}
		})
	}
	group.Go(func() { r.retryFailed(ctx) })
	group.Wait()
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	for range len(r.jobs) {
		(<-r.jobs)(ctx)
	}
}

// Do makes a worker run job with a context that has a deadline. If too many jobs wait already,
// Do calls full instead.
func (r *Reader) Do(job func(context.Context), full func()) {
	if !r.enqueue(job) {
		r.stats.Refused.Add(1)
		full()
	}
}

func (r *Reader) enqueue(job func(context.Context)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	select {
	case r.jobs <- job:
		return true
	default:
		return false
	}
}

// Read reads a page of history. If several callers request the same page at the same time, the
// log is read once and the callers share the page. Each caller must release its page.
func (r *Reader) Read(q history.Query, done func(Page, error)) {
	r.stats.Reads.Add(1)
	q.After, q.At = q.After.Round(0).UTC(), q.At.Round(0).UTC() // without time zones and monotonic readings, so that equal times are equal map keys
	if !r.join(q, done) {
		r.stats.Shared.Add(1)
		return
	}
	answer := func(p history.Page, waiting []func(Page, error), err error) {
		page := NewPage(p, r.cfg.Memory, len(waiting))
		for _, done := range waiting {
			done(page, err)
		}
	}
	r.Do(func(ctx context.Context) {
		p, err := r.Page(ctx, q)
		if err != nil {
			if why, ok := errors.AsType[*proto.Refusal](err); !ok || why.Code != proto.Overloaded {
				r.cfg.Log.Warn("read history", "room", q.Room.String(), "error", err)
			}
			r.PageFailed(q, err)
			err = Refusal(err)
		}
		waiting := r.leave(q)
		if err == nil && len(waiting) > 1 {
			// A caller may have joined the others during the read. Its page must not contain
			// messages that were deleted before its call.
			if err = r.log.Refresh(ctx, q.Room, &p); err != nil {
				r.cfg.Log.Warn("read changes", "room", q.Room.String(), "error", err)
				err = Refusal(err)
			}
		}
		answer(p, waiting, err)
	}, func() { answer(history.Page{}, r.leave(q), Overloaded()) })
}

// join adds done to the callers that wait for the query's page. It reports whether done is the
// first of them.
func (r *Reader) join(q history.Query, done func(Page, error)) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := r.pending[q]
	r.pending[q] = append(waiting, done)
	return len(waiting) == 0
}

// leave removes and returns the callers that wait for the query's page.
func (r *Reader) leave(q history.Query) []func(Page, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := r.pending[q]
	delete(r.pending, q)
	return waiting
}

// Page reads a page. Only jobs may call it. During the read, the memory that the page may need
// counts in the budget. Afterwards the returned page does not count.
func (r *Reader) Page(ctx context.Context, q history.Query) (history.Page, error) {
	n := pageBytes(q)
	if !r.cfg.Memory.Take(limit.Pages, n) {
		r.stats.Refused.Add(1)
		return history.Page{}, errNoMemory()
	}
	defer r.cfg.Memory.Add(limit.Pages, -n)
	return r.log.Read(ctx, q)
}

// Heads reads the newest records of several rooms from any replica. Only jobs may call it. If
// the memory budget is full, Heads waits, because clients cannot join a room without its head.
// Page refuses the request instead.
func (r *Reader) Heads(ctx context.Context, rooms []proto.Room) (map[proto.Room]history.Head, error) {
	free, err := r.awaitMemory(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	return r.log.Heads(ctx, rooms)
}

// Empty asks the owners for the heads of rooms in which Heads has found no records. Only jobs may
// call it.
func (r *Reader) Empty(ctx context.Context, rooms []proto.Room) map[proto.Room]history.Head {
	return history.Empty(ctx, r.log, rooms)
}

// Head reads the newest record of one room from the stream's leader. Only jobs may call it. It
// waits for memory.
func (r *Reader) Head(ctx context.Context, room proto.Room) (history.Head, error) {
	free, err := r.awaitMemory(ctx)
	if err != nil {
		return history.Head{}, err
	}
	defer free()
	last, found, err := r.log.Last(ctx, room)
	if err != nil {
		return history.Head{}, err
	}
	head := history.Head{}
	if found {
		head = history.HeadOf(last)
	}
	return head, r.log.Complete(ctx, room, &head)
}

// Complete adds the room's restrictions to a head that Heads has returned. Only jobs may call
// it.
func (r *Reader) Complete(ctx context.Context, room proto.Room, head *history.Head) error {
	return r.log.Complete(ctx, room, head)
}

func (r *Reader) awaitMemory(ctx context.Context) (free func(), err error) {
	n := min(history.MaxPageBytes+longestRecord, int(r.cfg.Memory.Most()/8))
	if !r.cfg.Memory.Await(ctx, limit.Pages, n) {
		r.stats.Refused.Add(1)
		return nil, errNoMemory()
	}
	return func() { r.cfg.Memory.Add(limit.Pages, -n) }, nil
}

// Rooms lists the rooms that have a log, each with the number of messages and acts that the log
// still contains.
func (r *Reader) Rooms(done func(map[proto.Room]uint64, error)) {
	r.Do(func(ctx context.Context) {
		rooms, err := history.Rooms(ctx, r.log)
		if err != nil {
			r.cfg.Log.Warn("list rooms", "error", err)
			err = Refusal(err)
		}
		done(rooms, err)
	}, func() { done(nil, Overloaded()) })
}
