// Package owner decides which instance owns which partition.
//
// Liveness is a lease: a key per instance in the bucket ROOMSVC that vanishes unless it is
// renewed. Each partition belongs to the live instance that rendezvous hashing names, so
// that an instance that comes or goes moves its share and nothing else. Who should own a
// partition and does not asks the one who does to release it, and takes the fence; who does
// not answer is not waited for. Instances may disagree for a moment about who is alive:
// then a partition changes hands once too often, but never has two owners, for safety rests
// on the fence alone (see package stream) and on no clock.
package owner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// Config says who an instance is and how long its lease lasts.
type Config struct {
	ID       string        // of the instance: a NATS subject token
	Lease    time.Duration // at least a second, which is as fine as the server counts
	Replicas int           // of the bucket of leases
	Renew    time.Duration // how often a fence is taken anew, well before its marker ages out
	Log      *slog.Logger
}

// Keeper is what owns partitions: it is told what to do with them. Calls about one
// partition never overlap.
type Keeper interface {
	// Prepare listens to the partition's commands and keeps them, for it is about to be
	// taken; alone if no other instance answers them any more, and shed if one may have
	// answered those that have been kept until now. The sink is for the fence.
	Prepare(p int, alone, shed bool) (stream.Sink, error)
	// Pause stops answering and keeps what comes, for the fence is about to be taken anew.
	Pause(p int) stream.Sink
	// Take begins to answer, under the fence whose sink the last Prepare or Pause returned.
	Take(p int, f *stream.Fence)
	// Fail is told that the partition cannot be taken now, and will be tried again; and
	// whether it is ours all the same, since nobody else is known to own it.
	Fail(p int, ours bool)
	// Release stops answering, and returns when nothing is on its way any more, which is
	// when the commit deadline has passed at the latest.
	Release(p int)
}

// Owner keeps this instance's share of the partitions. Its methods are safe for concurrent
// use.
type Owner struct {
	cfg     Config
	nc      *nats.Conn
	commits *stream.Committer
	keeper  Keeper
	leases  *leases

	lost  chan loss
	done  chan result
	tasks sync.WaitGroup
	held  atomic.Int32 // partitions
	doubt atomic.Int32 // partitions that others may have taken while the lease was over
	fault atomic.Pointer[error]

	// Owned by Run.
	parts      [proto.Partitions]part
	members    members
	busy       int // partitions that are being taken or released
	reconnects uint64
}

// part is what is known of one partition.
type part struct {
	phase phase
	fence *stream.Fence // of a part that is held
	since time.Time     // of the fence
	next  time.Time     // not to be tried before
	pause time.Duration // before the next try
	ours  bool          // as far as is known nobody else owns it
	heard bool          // the keeper has been told to prepare it and not to release it since
}

type phase int8

const (
	idle phase = iota
	taking
	held
	releasing
)

type loss struct {
	p     int
	fence *stream.Fence
	err   error
}

type result struct {
	p     int
	fence *stream.Fence // what was taken
	ours  bool
	err   error
	then  func() // for a release: tells the one who asked
}

// New returns an owner that owns nothing until Run.
func New(nc *nats.Conn, commits *stream.Committer, keeper Keeper, cfg Config) *Owner {
	o := &Owner{
		cfg: cfg, nc: nc, commits: commits, keeper: keeper,
		lost: make(chan loss, proto.Partitions), done: make(chan result, proto.Partitions),
	}
	o.fault.Store(&errStarting)
	return o
}

var errStarting = errors.New("the partitions are being taken")

// Lost tells that a partition's fence is void. It is called at most once for each Take.
func (o *Owner) Lost(p int, f *stream.Fence, err error) { o.lost <- loss{p, f, err} }

// Held returns how many partitions this instance owns.
func (o *Owner) Held() int { return int(o.held.Load()) }

// Fresh reports whether the lease was surely not over a moment ago. Where it is not, this
// instance may have been paused, and what it knows be outdated.
func (o *Owner) Fresh() bool { return o.leases.fresh() && o.doubt.Load() == 0 }

// Err returns why a partition of this instance cannot be owned now, nil if all are.
func (o *Owner) Err() error {
	if err := o.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Open makes the bucket of leases. It comes before Run.
func (o *Owner) Open(ctx context.Context) (err error) {
	o.leases, err = openLeases(ctx, o.nc, o.cfg)
	return err
}

// Run takes this instance's share of the partitions and keeps it until ctx ends. Then it
// hands everything over to those who stay, and returns when nothing is on its way.
func (o *Owner) Run(ctx context.Context) error {
	// What is still to be done when ctx has ended is bounded by a lease's time.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	changed := make(chan *nats.Msg, 16)
	asked := make(chan *nats.Msg, proto.Partitions)
	markers := make(chan *nats.Msg, 4*proto.Partitions)
	for subject, ch := range map[string]chan *nats.Msg{
		proto.SubjectServiceChanged:    changed,
		proto.ReleaseSubject(o.cfg.ID): asked,
		proto.SubjectAnyOwn:            markers,
	} {
		sub, err := o.nc.ChanSubscribe(subject, ch)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		defer sub.Unsubscribe()
	}
	beat := time.NewTicker(o.cfg.Lease / 4)
	defer beat.Stop()
	soon := time.NewTicker(firstPause)
	defer soon.Stop()
	o.look(work, false)
	o.nc.Publish(proto.SubjectServiceChanged, nil)
	stop := ctx.Done()
	var leave <-chan time.Time
	for {
		o.share(work, leave != nil)
		if leave != nil && o.busy == 0 && (o.Held() == 0 || o.members.alone(o.cfg.ID) || !o.nc.IsConnected()) {
			break
		}
		select {
		case <-stop:
			stop, leave = nil, time.After(o.cfg.Lease)
			o.look(work, true)
			o.nc.Publish(proto.SubjectServiceChanged, nil)
			continue
		case <-leave:
			o.cfg.Log.Warn("partitions were not asked for in time", "partitions", o.Held())
		case <-beat.C:
			o.look(work, leave != nil)
			continue
		case <-changed:
			o.look(work, leave != nil)
			continue
		case <-soon.C:
			continue
		case l := <-o.lost:
			o.give(work, l, leave != nil)
			continue
		case msg := <-asked:
			o.asked(msg)
			continue
		case msg := <-markers:
			o.overheard(msg)
			continue
		case r := <-o.done:
			o.finished(work, r, leave != nil)
			continue
		}
		break
	}
	o.close(work)
	return nil
}

// close releases what is left, and the lease last: until then nobody takes a fence by
// force.
func (o *Owner) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Lease)
	defer cancel()
	for p := range o.parts {
		if o.parts[p].phase == held {
			o.tasks.Go(func() { o.keeper.Release(p) })
		}
	}
	o.tasks.Wait()
	o.held.Store(0)
	if err := o.leases.end(ctx); err != nil {
		o.cfg.Log.Warn("lease is left to run out", "error", err)
	}
	o.nc.Publish(proto.SubjectServiceChanged, nil)
	o.nc.FlushWithContext(ctx)
}

// look renews the lease and reads who else is alive.
func (o *Owner) look(ctx context.Context, leaving bool) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Lease/2)
	defer cancel()
	now := time.Now()
	if n := o.nc.Stats().Reconnects; n != o.reconnects {
		o.reconnects = n
		o.members.blind()
	}
	lapsed := !o.leases.fresh()
	if lapsed {
		o.doubt.Store(1)
	}
	err := o.leases.renew(ctx, leaving)
	var seen []instance
	if err == nil {
		if lapsed {
			o.drop()
		}
		seen, err = o.leases.list(ctx)
	}
	if err != nil {
		o.members.blind()
		o.note(err)
		return
	}
	for _, change := range o.members.see(seen, now, o.cfg.Lease) {
		if change.id != o.cfg.ID {
			o.cfg.Log.Info("instances changed", "instance", change.id, "alive", change.alive)
		}
	}
}

// note keeps the newest trouble for Err, and logs when it begins and ends.
func (o *Owner) note(err error) {
	before := o.fault.Load()
	if err == nil {
		if before != nil {
			o.fault.Store(nil)
			o.cfg.Log.Info("all partitions of this instance are owned", "partitions", o.Held())
		}
		return
	}
	o.fault.Store(&err)
	if before == nil {
		o.cfg.Log.Warn("partitions cannot be owned", "error", err)
	}
}
