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

	lost   chan loss
	done   chan result
	looked chan sight
	tasks  sync.WaitGroup
	held   atomic.Int32 // partitions
	doubt  atomic.Bool  // others may have taken partitions while the lease was over
	fault  atomic.Pointer[error]

	// Owned by Run.
	parts      [proto.Partitions]part
	members    members
	chosen     [proto.Partitions]bool // by members: they should be this instance's
	busy       int                    // partitions that are being taken or released
	dropping   int                    // of these, partitions released because the lease was over
	looking    bool                   // a look is under way
	again      bool                   // another look must follow it
	announce   bool                   // the look after the present one must be announced
	said       bool                   // a look has told that this instance leaves, or could not
	reconnects uint64
}

// part is what is known of one partition.
type part struct {
	phase    phase
	fence    *stream.Fence // of a part that is held
	since    time.Time     // of the fence
	next     time.Time     // not to be tried before
	pause    time.Duration // before the next try
	ours     bool          // as far as is known nobody else owns it
	heard    bool          // the keeper has been told to prepare it and not to release it since
	failed   bool          // the keeper has been told since that it cannot be taken now
	renewing bool          // it is taken anew from ourselves
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

// sight is what a look at the leases has found.
type sight struct {
	at       time.Time
	seen     []lease
	lapsed   bool // the lease was over before it was renewed
	announce bool
	leaving  bool
	err      error
}

// New returns an owner that owns nothing until Run.
func New(nc *nats.Conn, commits *stream.Committer, keeper Keeper, cfg Config) *Owner {
	o := &Owner{
		cfg: cfg, nc: nc, commits: commits, keeper: keeper,
		lost: make(chan loss, proto.Partitions), done: make(chan result, proto.Partitions),
		looked: make(chan sight, 1),
	}
	for p := range o.chosen {
		o.chosen[p] = true
	}
	o.fault.Store(&errStarting)
	return o
}

var errStarting = errors.New("the partitions are being taken")

// Lost tells that a partition's fence is void. It is called at most once for each Take.
func (o *Owner) Lost(p int, f *stream.Fence, err error) { o.lost <- loss{p, f, err} }

// Held returns how many partitions this instance owns.
func (o *Owner) Held() int { return int(o.held.Load()) }

// Fresh reports whether the lease has certainly not run out. If it may have, this instance
// may have been paused, and another may know better.
func (o *Owner) Fresh() bool { return o.leases.fresh() && !o.doubt.Load() }

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
	alive := make(chan *nats.Msg, 256)
	for subject, ch := range map[string]chan *nats.Msg{
		proto.SubjectServiceAlive:      alive,
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
	o.announce = true
	o.look(work, false)
	stop := ctx.Done()
	var leave <-chan time.Time
	for {
		o.share(work, leave != nil)
		if leave != nil && o.said && o.busy == 0 && (o.Held() == 0 || o.members.alone(o.cfg.ID) || !o.nc.IsConnected()) {
			break
		}
		select {
		case <-stop:
			stop, leave = nil, time.After(o.cfg.Lease)
			o.announce = true
			o.look(work, true)
			continue
		case <-leave:
			o.cfg.Log.Warn("partitions were not asked for in time", "partitions", o.Held())
		case <-beat.C:
			o.look(work, leave != nil)
			continue
		case <-changed:
			o.look(work, leave != nil)
			continue
		case found := <-o.looked:
			o.found(found)
			if o.again {
				o.look(work, leave != nil)
			}
			continue
		case msg := <-alive:
			// Only an instance that can renew its lease answers: it reaches a majority of the
			// servers, and so does everybody who hears it.
			if o.leases.fresh() && proto.Answerable(msg.Reply) {
				o.nc.Publish(msg.Reply, nil)
			}
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

// look begins to renew the lease and to read who else is alive. One look is under way at a
// time; a call during it has another follow.
func (o *Owner) look(ctx context.Context, leaving bool) {
	if o.again = o.looking; o.looking {
		return
	}
	o.looking = true
	found := sight{at: time.Now(), announce: o.announce, leaving: leaving}
	o.announce = false
	o.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, o.cfg.Lease/2)
		defer cancel()
		if found.lapsed, found.err = o.leases.renew(ctx, leaving, o.lapsed); found.err == nil {
			found.seen, found.err = o.leases.list(ctx)
		}
		o.looked <- found
	})
}

// lapsed is called before a lease that was over counts as fresh again.
func (o *Owner) lapsed() { o.doubt.Store(true) }

// found applies what a look has found.
func (o *Owner) found(s sight) {
	o.looking = false
	o.said = o.said || s.leaving
	if s.lapsed {
		o.drop()
	}
	o.doubt.Store(o.dropping > 0)
	if n := o.nc.Stats().Reconnects; n != o.reconnects {
		o.reconnects = n
		o.members.lostView()
	}
	if s.announce {
		o.nc.Publish(proto.SubjectServiceChanged, nil)
	}
	if s.err != nil {
		o.members.lostView()
		o.note(s.err)
		return
	}
	for _, change := range o.members.see(s.seen, s.at) {
		if change.id != o.cfg.ID {
			o.cfg.Log.Info("instances changed", "instance", change.id, "alive", change.alive)
		}
	}
	for p := range o.chosen {
		o.chosen[p] = o.members.chosen(p, o.cfg.ID)
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
