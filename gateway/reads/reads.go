// Package reads reads the log for all other packages of the gateway.
//
// Event loops and feeds must not wait for NATS, so a fixed number of workers does. The pages
// that they return count in the gateway's memory until their users release them.
package reads

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/gateway/limit"
	"roomcast/proto"
	"roomcast/proto/history"
)

const (
	workers  = 32              // reads at the same time
	maxJobs  = 1 << 14         // reads that wait for a worker; more are refused as overloaded
	readTime = 5 * time.Second // for one read; a stream without a leader may answer late
)

// Config configures the reads.
type Config struct {
	Log    *slog.Logger
	Memory *limit.Budget // pages count as limit.Pages
}

// Stats counts what a reader does. It is safe for concurrent use.
type Stats struct {
	Reads   atomic.Uint64 // calls of Read
	Shared  atomic.Uint64 // calls of Read that shared the page of an equal one
	Refused atomic.Uint64 // reads refused for lack of workers or memory
}

// Reader reads the log. Its methods are safe for concurrent use. Those with a callback do not
// block. They call it once, from a worker or before they return.
type Reader struct {
	cfg   Config
	stats *Stats
	jobs  chan func(context.Context)

	log *history.Log // set by Run before the first job
	nc  *nats.Conn   // of log

	mu      sync.Mutex // guards the fields below
	ended   bool       // the workers have ended
	pending map[history.Query][]func(Page, error)

	failed atomic.Pointer[failed] // why the gateway cannot read the log; nil = it can
}

// New returns a reader. Its jobs wait for Run.
func New(cfg Config) *Reader {
	return &Reader{
		cfg: cfg, stats: new(Stats), jobs: make(chan func(context.Context), maxJobs),
		pending: make(map[history.Query][]func(Page, error)),
	}
}

// Stats returns the reader's counters.
func (r *Reader) Stats() *Stats { return r.stats }

// Run reads log over nc until ctx ends. Then it runs the waiting jobs with the ended context.
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

// Do makes a worker run job, with a context that has a deadline. If too many jobs wait, it calls
// full instead.
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

// Read reads a page of history. Equal reads at the same time read the log once and share
// the page. Each caller releases the page that it receives.
func (r *Reader) Read(q history.Query, done func(Page, error)) {
	r.stats.Reads.Add(1)
	q.After, q.At = q.After.Round(0).UTC(), q.At.Round(0).UTC() // equal times are equal keys
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
			// A caller may have joined during the read. It must not receive messages that were
			// deleted before.
			if err = r.log.Refresh(ctx, q.Room, &p); err != nil {
				r.cfg.Log.Warn("read changes", "room", q.Room.String(), "error", err)
				err = Refusal(err)
			}
		}
		answer(p, waiting, err)
	}, func() { answer(history.Page{}, r.leave(q), Overloaded()) })
}

// join adds done to the callers that wait for the query, and reports whether it is the
// first.
func (r *Reader) join(q history.Query, done func(Page, error)) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := r.pending[q]
	r.pending[q] = append(waiting, done)
	return len(waiting) == 0
}

// leave removes and returns the callers that wait for the query.
func (r *Reader) leave(q history.Query) []func(Page, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := r.pending[q]
	delete(r.pending, q)
	return waiting
}

// Page reads a page; only jobs call it. During the read it holds the memory that the page may
// need. The returned page does not count in the budget.
func (r *Reader) Page(ctx context.Context, q history.Query) (history.Page, error) {
	n := pageBytes(q)
	if !r.cfg.Memory.Take(limit.Pages, n) {
		r.stats.Refused.Add(1)
		return history.Page{}, errNoMemory()
	}
	defer r.cfg.Memory.Add(limit.Pages, -n)
	return r.log.Read(ctx, q)
}

// Heads reads the newest records of rooms from any replica; only jobs call it. Joins depend on
// it. So it waits for memory, while Page would refuse.
func (r *Reader) Heads(ctx context.Context, rooms []proto.Room) (map[proto.Room]history.Head, error) {
	free, err := r.awaitMemory(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	return r.log.Heads(ctx, rooms)
}

// Head reads the newest record of one room from the stream's leader; only jobs call it. It waits
// for memory.
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

// Complete adds the restrictions to a head that Heads has returned; only jobs call it.
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

// Room is one row of the list of rooms.
type Room struct {
	Name     proto.Room
	Messages uint64 // messages and acts that the log still holds
}

// Rooms lists the rooms that have a log, in no order.
func (r *Reader) Rooms(done func([]Room, error)) {
	r.Do(func(ctx context.Context) {
		rooms, err := r.listRooms(ctx)
		if err != nil {
			r.cfg.Log.Warn("list rooms", "error", err)
			err = Refusal(err)
		}
		done(rooms, err)
	}, func() { done(nil, Overloaded()) })
}

// listRooms asks the stream for the subjects that it holds. The server lists up to 100,000.
func (r *Reader) listRooms(ctx context.Context) ([]Room, error) {
	js, err := jetstream.NewWithAPIPrefix(r.nc, r.log.API())
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, proto.StreamName)
	if err != nil {
		return nil, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(proto.SubjectAnyLog))
	if err != nil {
		return nil, err
	}
	rooms := make([]Room, 0, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		if room, err := proto.RoomOfSubject(subject); err == nil {
			rooms = append(rooms, Room{room, n})
		}
	}
	return rooms, nil
}
