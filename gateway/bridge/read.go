package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/gateway/limit"
	"roomcast/proto"
	"roomcast/proto/history"
)

const (
	readerCount = 32              // reads that are made at the same time
	readerQueue = 1 << 14         // reads that wait; more are refused
	readTime    = 5 * time.Second // for one read, waiting for a stream without leader included
)

// readers are the goroutines that wait for the log, so that nobody else does.
type readers struct {
	jobs chan func(context.Context)
	stat *counters

	mu    sync.Mutex
	ended bool // nobody will run a job any more
}

func newReaders(stat *counters) *readers {
	return &readers{jobs: make(chan func(context.Context), readerQueue), stat: stat}
}

// do has job run with a context that ends in time, or calls full if too many wait.
func (r *readers) do(job func(context.Context), full func()) {
	if !r.take(job) {
		r.stat.refused.Add(1)
		full()
	}
}

func (r *readers) take(job func(context.Context)) bool {
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

// run runs jobs until ctx ends; those left over run with the ended context.
func (r *readers) run(ctx context.Context) {
	var group sync.WaitGroup
	for range readerCount {
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
	group.Wait()
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	for range len(r.jobs) {
		(<-r.jobs)(ctx)
	}
}

// shared makes equal reads at the same time once. It is safe for concurrent use.
type shared struct {
	mu      sync.Mutex
	pending map[history.Query][]func(Page, error)
}

// join reports whether done is the first to wait for the query.
func (s *shared) join(q history.Query, done func(Page, error)) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.pending[q]
	s.pending[q] = append(waiting, done)
	return len(waiting) == 0
}

// leave returns all that wait for the query, which is no longer pending.
func (s *shared) leave(q history.Query) []func(Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.pending[q]
	delete(s.pending, q)
	return waiting
}

func (b *Bridge) read(q history.Query, done func(Page, error)) {
	b.stat.reads.Add(1)
	q.After, q.At = q.After.Round(0).UTC(), q.At.Round(0).UTC() // equal times are equal keys
	if !b.shared.join(q, done) {
		b.stat.shared.Add(1)
		return
	}
	answer := func(p history.Page, err error) {
		waiting := b.shared.leave(q)
		page := NewPage(p, b.cfg.Memory, len(waiting))
		for _, done := range waiting {
			done(page, err)
		}
	}
	b.readers.do(func(ctx context.Context) {
		p, err := b.readCounted(ctx, q)
		if err != nil {
			if r, ok := errors.AsType[*proto.Refusal](err); !ok || r.Code != proto.Overloaded {
				b.cfg.Log.Warn("history cannot be read", "room", q.Room.String(), "error", err)
			}
			b.cannotRead(q.Room, err, b.rereadPage(q))
			err = refusal(err)
		}
		answer(p, err)
	}, func() { answer(history.Page{}, errOverloaded()) })
}

// roomForHeads waits until there is memory to read heads with. Joins need it: they wait
// where pages are refused.
func (b *Bridge) roomForHeads(ctx context.Context) (free func(), err error) {
	n := min(history.MaxPageBytes+longestRecord, int(b.cfg.Memory.Most()/8))
	if !b.cfg.Memory.Await(ctx, limit.Pages, n) {
		b.stat.refused.Add(1)
		return nil, errNoMemory()
	}
	return func() { b.cfg.Memory.Add(limit.Pages, -n) }, nil
}

// readCounted reads a page with what it needs meanwhile taken from the budget.
func (b *Bridge) readCounted(ctx context.Context, q history.Query) (history.Page, error) {
	room := readRoom(q)
	if !b.cfg.Memory.Take(limit.Pages, room) {
		b.stat.refused.Add(1)
		return history.Page{}, errNoMemory()
	}
	defer b.cfg.Memory.Add(limit.Pages, -room)
	return b.log.Read(ctx, q)
}

// listRooms asks the stream for all subjects it holds. One answer of the server lists
// 100,000 of them.
func (b *Bridge) listRooms(ctx context.Context) ([]RoomInfo, error) {
	js, err := jetstream.NewWithAPIPrefix(b.control, b.log.API())
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
	rooms := make([]RoomInfo, 0, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		if room, err := proto.RoomOfSubject(subject); err == nil {
			rooms = append(rooms, RoomInfo{room, n})
		}
	}
	return rooms, nil
}

// refusal turns what went wrong while reading into what a client is told. The cause has
// been logged.
func refusal(err error) error {
	var r *proto.Refusal
	switch {
	case errors.As(err, &r):
		return r
	case unreadable(err) != nil:
		return unreadable(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrStreamNotFound):
		return errUnavailable()
	}
	return proto.AsRefusal(err)
}

// unreadable returns the refusal of a log that this gateway cannot read, nil for other
// errors.
func unreadable(err error) *proto.Refusal {
	why, _ := history.Unreadable(err)
	return why
}

func errUnavailable() error {
	return proto.Refuse(proto.Unavailable, "the log cannot be reached now; try again").After(retryAfter)
}

func errTooManyRooms(n int64) error {
	return proto.Refuse(proto.Overloaded, "members of this gateway are in %d rooms and it takes no more; join one of these, or try again later", n).After(retryAfter)
}

func errNoMemory() error {
	return proto.Refuse(proto.Overloaded, "the memory of this gateway is in use; try again").After(retryAfter)
}

func errOverloaded() error {
	return proto.Refuse(proto.Overloaded, "too much is being read at this gateway; try again").After(retryAfter)
}
