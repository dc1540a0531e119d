package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

const (
	// maxBatch is how many records one commit takes; the server allows 1000.
	maxBatch = 256
	// maxBatchBytes bounds what one commit holds, for the server stages it in memory.
	maxBatchBytes = 4 << 20
	// retryPause is how long to wait when another fence is just being taken.
	retryPause = 2 * time.Millisecond
)

// group commits what has gathered since the last commit as one atomic batch, of all
// partitions together: the server checks the fence of each partition in it. One commit is
// under way at a time, as a replicated stream demands of whoever uses fences (error 10164),
// and as makes the most of a disk that syncs.
type group struct {
	l     *line
	queue chan grouped // holds what one commit takes; a partition that fills it waits
	id    string
	count uint64
	out   envelope
}

type grouped struct {
	f   *Fence
	rec *proto.Record
}

func newGroup(l *line) *group {
	return &group{l: l, queue: make(chan grouped, maxBatch), id: rand.Text()[:10]}
}

func (g *group) append(f *Fence, rec *proto.Record, _ uint64) error {
	select {
	case g.queue <- grouped{f, rec}:
		return nil
	case <-g.l.broke:
		return g.l.err
	}
}

func (g *group) run() {
	batch := make([]grouped, 0, maxBatch)
	for {
		select {
		case first := <-g.queue:
			batch = append(batch[:0], first)
		case <-g.l.broke:
			return
		}
		for size := len(batch[0].rec.Payload); len(batch) < maxBatch && size < maxBatchBytes; {
			select {
			case next := <-g.queue:
				batch = append(batch, next)
				size += len(next.rec.Payload)
				continue
			default:
			}
			break
		}
		g.commit(batch)
	}
}

// commit makes batch durable and tells its sinks. A batch is stored as a whole or not at
// all, so one that a lost fence spoils is tried again partition by partition.
func (g *group) commit(batch []grouped) {
	// Fences that are void by now would spoil the rest.
	live := batch[:0]
	for _, e := range batch {
		if e.f.Void() == nil {
			live = append(live, e)
		}
	}
	if len(live) == 0 {
		return
	}
	seq, err := g.publish(live)
	for start := time.Now(); errors.Is(err, errRetry) && time.Since(start) < g.l.c.cfg.Deadline; {
		time.Sleep(retryPause)
		seq, err = g.publish(live)
	}
	switch {
	case err == nil:
		g.l.saw(seq)
		first := seq - uint64(len(live)) + 1
		for i, e := range live {
			e.f.committed(first + uint64(i))
		}
	case !errors.Is(err, ErrLost):
		g.l.refused(err)
		g.l.fail(err)
	default:
		g.alone(live, err)
	}
}

// alone commits each partition's part of a batch that was refused, or gives the partition
// up if it stood alone.
func (g *group) alone(batch []grouped, err error) {
	parts := make(map[*Fence][]grouped)
	for _, e := range batch {
		parts[e.f] = append(parts[e.f], e)
	}
	for f, part := range parts {
		if len(parts) == 1 {
			f.fail(err)
		} else {
			g.commit(part)
		}
	}
}

// publish sends the batch and returns the stream sequence of its last record.
func (g *group) publish(batch []grouped) (uint64, error) {
	g.count++
	id := g.id + strconv.FormatUint(g.count, 36)
	fenced := make(map[*Fence]bool, 1)
	for i, e := range batch {
		msg := g.out.write(e.rec, g.l.c.cfg.Keys)
		if !fenced[e.f] { // the first record of a partition speaks for all
			fenced[e.f] = true
			g.out.fence(e.f)
		}
		if len(batch) > 1 {
			g.out.put(headerBatchID, id)
			g.out.put(headerBatchSeq, strconv.Itoa(i+1))
		}
		if i+1 == len(batch) {
			if len(batch) > 1 {
				g.out.put(headerBatchCommit, "1")
			}
			return g.await(msg)
		}
		if err := g.l.nc.PublishMsg(msg); err != nil {
			return 0, unavailable(err)
		}
	}
	return 0, nil
}

func (g *group) await(msg *nats.Msg) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), g.l.c.cfg.Deadline)
	defer cancel()
	reply, err := g.l.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return 0, unavailable(err)
	}
	return parseAck(reply)
}
