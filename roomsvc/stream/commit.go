package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// Committer appends records to the stream. All it appends at one time leaves by one
// connection, which is never mended: when it breaks, or the stream does not answer in
// time, every fence taken over it is void, and a new connection takes new fences, so that
// no straggler can slip in behind a lost one.
//
// How records travel depends on what the stream's storage makes cheap:
//
//   - one server that does not sync before it acknowledges: each record alone, one behind
//     the other without waiting (see pipeline);
//   - one server that syncs, or several, or one that has just refused a record: what gathers
//     while a commit is under way goes as one atomic batch (see group).
//
// It is safe for concurrent use.
type Committer struct {
	cfg  Config
	wary atomic.Bool // the last line ended because a record was refused

	mu     sync.Mutex // guards what follows
	line   *line      // nil before the first one
	closed bool
}

// NewCommitter returns a committer; its connection is opened when the first fence is taken.
func NewCommitter(cfg Config) *Committer { return &Committer{cfg: cfg} }

// Close breaks the connection and returns when all goroutines have ended.
func (c *Committer) Close() {
	c.mu.Lock()
	l := c.line
	c.closed = true
	c.mu.Unlock()
	if l != nil {
		l.fail(errClosed)
		l.wait.Wait()
	}
}

// Sink hears what becomes of the records appended under one fence, in the order they were
// appended: Committed once for each, or, at some point, Failed once and nothing more; what
// was not committed by then may be in the log or not. Calls come from the committer's
// goroutines and must not block.
type Sink interface {
	Committed(stream uint64)
	Failed(err error)
}

// Fence is the right to append to a partition, until somebody else takes it or the
// connection it was taken over breaks. Append is for one goroutine.
type Fence struct {
	Partition int
	marker    uint64    // its stream sequence
	taken     time.Time // when the marker was acknowledged
	seq       string    // of the marker, in decimal
	token     string    // what acks carry before whose turn it is: partition and marker
	replies   [turns]string
	subject   string // of the marker
	line      *line
	sink      Sink
	out       envelope // owned by the goroutine that appends, or for a group by its loop

	mu         sync.Mutex // guards what follows
	sent       []sent     // ring: the records from head to tail, which are on their way
	head, tail uint64
	err        error // why the fence is void
}

// sent is a record on its way.
type sent struct {
	at    time.Duration // since the line opened
	units int           // of the line's room
}

// Marker returns the stream sequence of the fence's ownership marker.
func (f *Fence) Marker() uint64 { return f.marker }

// Age returns how long ago the marker was acknowledged.
func (f *Fence) Age() time.Duration { return time.Since(f.taken) }

// Floor returns a stream sequence that every record not yet committed will exceed. It is
// the highest that the stream has acknowledged over the fence's connection: what an
// earlier connection saw may no longer be in the log.
func (f *Fence) Floor() uint64 { return f.line.floor.Load() }

// Append sends rec on its way; rec's payload is sealed here if keys are set. At most
// Config.Window records may be on their way; if those of all partitions together are too
// many for the server, it waits. An error means that the fence is void and the
// sink has heard Failed; rec was not appended.
//
// The caller must not hold a lock that its sink takes.
func (f *Fence) Append(rec *proto.Record) error {
	units := cost(rec)
	if err := f.line.reserve(units); err != nil {
		return err
	}
	f.mu.Lock()
	if f.err != nil {
		f.mu.Unlock()
		f.line.vacate(units)
		return f.err
	}
	f.sent[f.tail%uint64(len(f.sent))] = sent{time.Since(f.line.born), units}
	n := f.tail
	f.tail++
	f.mu.Unlock()
	return f.line.way.append(f, rec, n)
}

// committed tells the sink that the next record is at stream.
func (f *Fence) committed(stream uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.advance(stream)
	}
}

func (f *Fence) advance(stream uint64) {
	f.line.vacate(f.sent[f.head%uint64(len(f.sent))].units)
	f.head++
	f.sink.Committed(stream)
}

// answered is committed for an answer that came to the reply subject of turn. It reports
// false if it is another one's turn, which must not happen.
func (f *Fence) answered(turn string, stream uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return true
	}
	if f.head == f.tail || turn != f.replies[f.head%turns][len(f.line.inbox)+len(f.token):] {
		return false
	}
	f.advance(stream)
	return true
}

func (f *Fence) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return
	}
	f.err = err
	for ; f.head < f.tail; f.head++ {
		f.line.vacate(f.sent[f.head%uint64(len(f.sent))].units)
	}
	f.sink.Failed(err)
}

// Void returns why the fence is of no use any more, nil if it still is.
func (f *Fence) Void() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// late reports whether a record has been on its way for longer than d.
func (f *Fence) late(d time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err == nil && f.head < f.tail &&
		time.Since(f.line.born)-f.sent[f.head%uint64(len(f.sent))].at > d
}

// Marker is the newest ownership marker of a partition.
type Marker struct {
	Seq   uint64 `json:"-"` // 0 = there is none
	Owner string `json:"owner"`
}

// attempts is how often a marker can be read or written within the deadline: who takes a
// partition tries again anyway, and a server that has just lost its leader answers nothing.
const attempts = 4

func (c *Committer) attempt() time.Duration {
	return max(200*time.Millisecond, c.cfg.Deadline/attempts)
}

// Marker reads a partition's newest marker from the stream's leader.
func (c *Committer) Marker(ctx context.Context, p int) (Marker, error) {
	l, err := c.open()
	if err != nil {
		return Marker{}, err
	}
	ask, err := json.Marshal(map[string]string{"last_by_subj": proto.OwnSubject(p)})
	if err != nil {
		return Marker{}, fmt.Errorf("read marker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.attempt())
	defer cancel()
	reply, err := l.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+proto.StreamName, ask)
	if err != nil {
		return Marker{}, fmt.Errorf("read marker: %w", unavailable(err))
	}
	var got struct {
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &got); err != nil {
		return Marker{}, fmt.Errorf("read marker: %w", err)
	}
	m := Marker{Seq: got.Message.Seq}
	switch {
	case got.Error != nil && got.Error.ErrCode == codeNotFound:
		return m, nil
	case got.Error != nil:
		return m, fmt.Errorf("read marker: %w", got.Error)
	}
	// A marker that cannot be read is still a fence; its owner is then nobody.
	if json.Unmarshal(got.Message.Data, &m) != nil {
		m.Owner = ""
	}
	return m, nil
}

// Fence takes the partition for owner, by a new marker in the place of after. It fails with
// [ErrLost] if after is not the newest one any more. What was appended under older fences is
// in the log by then, or never will be.
func (c *Committer) Fence(ctx context.Context, p int, after Marker, owner string, sink Sink) (*Fence, error) {
	l, err := c.open()
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(Marker{Owner: owner})
	if err != nil {
		return nil, fmt.Errorf("take partition %d: %w", p, err)
	}
	msg := nats.NewMsg(proto.OwnSubject(p))
	msg.Data = body
	msg.Header.Set(headerExpect, strconv.FormatUint(after.Seq, 10))
	ctx, cancel := context.WithTimeout(ctx, c.attempt())
	defer cancel()
	reply, err := l.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return nil, fmt.Errorf("take partition %d: %w", p, unavailable(err))
	}
	seq, err := parseAck(reply)
	if err != nil {
		return nil, fmt.Errorf("take partition %d: %w", p, err)
	}
	l.saw(seq)
	f := &Fence{
		Partition: p, line: l, sink: sink, marker: seq, taken: time.Now(),
		seq: strconv.FormatUint(seq, 10), subject: proto.OwnSubject(p),
		token: strconv.Itoa(p) + "." + strconv.FormatUint(seq, 36) + ".",
		sent:  make([]sent, c.cfg.Window),
	}
	for i := range f.replies {
		f.replies[i] = l.inbox + f.token + strconv.Itoa(i)
	}
	if err := l.admit(f); err != nil {
		return nil, fmt.Errorf("take partition %d: %w", p, err)
	}
	return f, nil
}

// open returns the connection, a new one if the last one broke.
func (c *Committer) open() (*line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.line != nil && !c.line.broken() {
		return c.line, nil
	}
	l, err := newLine(c)
	if err != nil {
		return nil, fmt.Errorf("open commit connection: %w", unavailable(err))
	}
	c.line = l
	return l, nil
}

// unavailable wraps what NATS says about a connection or a request, so that callers need
// to know one error only.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
