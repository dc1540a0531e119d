// Package owner decides which instance owns which partition.
//
// Liveness is a lease: a key per instance in the bucket ROOMSVC that must be renewed. Each
// partition belongs to the live instance that rendezvous hashing names, so that an instance
// that comes or goes moves its share and nothing else. An instance that should own a partition
// asks the owner to release it, and takes the fence. It does not wait for an owner that gives
// no answer. Instances may disagree for a moment about which are alive. A partition then changes
// hands once too often, but never has two owners, because safety rests on the fence alone (see
// package stream) and on no clock.
//
// The rules are in ownership.go and step.go and do no I/O. The rest of the package carries out
// their decisions:
//
//	leases, asks, markers, results -> step -> look, acquire, renew, release, refuse
package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
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
	Lease    time.Duration // at least a second
	Replicas int           // of the bucket of leases
	Renew    time.Duration // how long a marker serves, well before it ages out
	Log      *slog.Logger
}

// Before says which instance answered a partition's commands until now.
type Before int8

const (
	ThisInstance    Before = iota // commands that wait here have no answer yet
	AnotherInstance               // it may still answer; senders try again with the same key
	Nobody                        // an instance that is gone may have answered commands that wait here
)

// Partitions serves the commands of partitions. Calls about one partition never overlap.
type Partitions interface {
	// Prepare begins to receive a partition's commands and keeps them, because it is about to be
	// taken. The sink is for its fence.
	Prepare(p int, before Before) (stream.Sink, error)
	// Pause stops answering and keeps what comes, because the fence is about to be renewed.
	Pause(p int) stream.Sink
	// Take begins to answer, under the fence whose sink the last Prepare or Pause returned.
	Take(p int, f *stream.Fence)
	// Fail says that the partition cannot be taken now; the owner will try again. If ours is
	// true, no other instance is known to own it.
	Fail(p int, ours bool)
	// Release stops answering, and returns when nothing is under way any more. The commit deadline
	// bounds that.
	Release(p int)
}

// Owner keeps this instance's share of the partitions. Its methods are safe for concurrent
// use; Open and Run are called once, in this order.
type Owner struct {
	// Static after Open.
	cfg        Config
	nc         *nats.Conn
	commits    *stream.Committer
	partitions Partitions
	leases     *leases
	start      time.Time // origin of the times in trusted and lease

	lost   chan loss
	done   chan any // result, or released
	looked chan looked
	tasks  sync.WaitGroup

	// Published by Run.
	held    atomic.Int32
	lease   atomic.Int64 // end of the lease, in nanoseconds since start
	trusted atomic.Int64 // until when no other instance can have taken what is owned here, likewise
	trouble atomic.Pointer[error]

	// Owned by Run.
	state      *ownership
	fences     [proto.Partitions]*stream.Fence // of partitions that were acquired
	replies    [proto.Partitions]string        // to the instances that asked for partitions
	reconnects uint64
}

type loss struct {
	p     int
	fence *stream.Fence
	err   error
}

// New returns an owner that owns nothing until Run.
func New(nc *nats.Conn, commits *stream.Committer, partitions Partitions, cfg Config) *Owner {
	o := &Owner{
		cfg: cfg, nc: nc, commits: commits, partitions: partitions, start: time.Now(),
		lost: make(chan loss, proto.Partitions), done: make(chan any, proto.Partitions),
		looked: make(chan looked, 1), state: newOwnership(cfg, proto.Partitions),
	}
	o.publish()
	return o
}

// Open makes the bucket of leases.
func (o *Owner) Open(ctx context.Context) (err error) {
	o.leases, err = openLeases(ctx, o.nc, o.cfg)
	return err
}

// Lost says that a partition's fence is void. It is called at most once for each Take.
func (o *Owner) Lost(p int, f *stream.Fence, err error) { o.lost <- loss{p, f, err} }

// Held returns how many partitions this instance owns.
func (o *Owner) Held() int { return int(o.held.Load()) }

// Trusted reports whether no other instance can have taken a partition that is owned here.
// Otherwise this instance may have been paused, and another one may know better.
func (o *Owner) Trusted() bool { return int64(time.Since(o.start)) < o.trusted.Load() }

// leased reports whether the lease cannot have run out yet.
func (o *Owner) leased() bool { return int64(time.Since(o.start)) < o.lease.Load() }

// Err returns why a partition of this instance cannot be owned now, nil if all are.
func (o *Owner) Err() error {
	if err := o.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Run takes this instance's share of the partitions and keeps it until ctx ends. Then it
// hands everything over to the other instances, and returns when nothing is under way.
func (o *Owner) Run(ctx context.Context) error {
	// After ctx has ended, the work that remains takes a lease's time at most.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	notices := make(chan *nats.Msg, 16)
	requests := make(chan *nats.Msg, proto.Partitions)
	markers := make(chan *nats.Msg, 4*proto.Partitions)
	probes := make(chan *nats.Msg, 256)
	for subject, ch := range map[string]chan *nats.Msg{
		proto.SubjectServiceAlive:      probes,
		proto.SubjectServiceChanged:    notices,
		proto.ReleaseSubject(o.cfg.ID): requests,
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
	tick := time.NewTicker(firstPause)
	defer tick.Stop()
	stop := ctx.Done()
	var late <-chan time.Time
	for o.step(work, started{}); !o.state.handedOver(o.nc.IsConnected()); {
		select {
		case <-stop:
			stop, late = nil, time.After(o.cfg.Lease)
			o.step(work, stopped{})
		case <-late:
			o.cfg.Log.Warn("partitions were not asked for in time", "partitions", o.Held())
			o.close(work)
			return nil
		case <-beat.C:
			o.step(work, ticked{beat: true})
		case <-tick.C:
			o.measure(work)
			o.step(work, ticked{})
		case <-notices:
			o.step(work, changed{})
		case found := <-o.looked:
			if n := o.nc.Stats().Reconnects; n != o.reconnects {
				o.reconnects = n
				o.step(work, reconnected{})
			}
			o.step(work, found)
		case msg := <-probes:
			// Only an instance that can renew its lease answers: it reaches a majority of the
			// servers, and so does everybody that receives the answer.
			if o.leased() && proto.Answerable(msg.Reply) {
				o.nc.Publish(msg.Reply, nil)
			}
		case l := <-o.lost:
			if o.fences[l.p] == l.fence {
				o.step(work, lost{l.p, l.err})
			}
		case msg := <-requests:
			o.asked(work, msg)
		case msg := <-markers:
			o.marked(work, msg)
		case r := <-o.done:
			o.finished(work, r)
		}
	}
	o.close(work)
	return nil
}

// step lets the rules decide about an event, publishes what is true from then on, and carries
// out what they want.
func (o *Owner) step(ctx context.Context, e event) {
	actions := o.state.step(e, time.Now())
	o.publish()
	for _, a := range actions {
		o.do(ctx, a)
	}
}

func (o *Owner) publish() {
	o.held.Store(int32(o.state.held()))
	until := int64(0)
	if !o.state.until.IsZero() {
		until = int64(o.state.until.Sub(o.start))
	}
	if o.state.doubted == 0 {
		o.trusted.Store(until)
	} else {
		o.trusted.Store(0)
	}
	o.lease.Store(until)
	if err := o.state.trouble; err != nil {
		o.trouble.Store(&err)
	} else {
		o.trouble.Store(nil)
	}
}

func (o *Owner) do(ctx context.Context, a action) {
	switch a := a.(type) {
	case look:
		o.tasks.Go(func() { o.looked <- o.look(ctx, a) })
	case acquire:
		alive := o.state.members.snapshot()
		if !o.state.members.sighted() {
			alive = func(string) bool { return true } // an owner that is gone gives no answer
		}
		o.tasks.Go(func() { o.done <- o.take(ctx, a.p, a.ours, alive) })
	case renew:
		o.tasks.Go(func() { o.done <- o.renew(ctx, a.p) })
	case release:
		o.tasks.Go(func() {
			o.partitions.Release(a.p)
			o.done <- released(a)
		})
	case refuse:
		o.partitions.Fail(a.p, a.ours)
	case answer:
		o.nc.Publish(o.replies[a.p], nil)
	case report:
		o.report(a)
	}
}

func (o *Owner) report(r report) {
	attrs := []any{}
	level := slog.LevelInfo
	if r.p >= 0 {
		attrs, level = append(attrs, "partition", r.p), slog.LevelWarn
	}
	if r.by != "" {
		attrs = append(attrs, "instance", r.by)
	}
	if r.err != nil {
		attrs, level = append(attrs, "error", r.err), slog.LevelWarn
	}
	o.cfg.Log.Log(context.Background(), level, r.what, append(attrs, "owned", o.Held())...)
}

// look renews the lease and reads those of the other instances.
func (o *Owner) look(ctx context.Context, a look) looked {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Lease/2)
	defer cancel()
	found := looked{sent: time.Now(), leaving: a.leaving}
	found.err = o.leases.renew(ctx, a.leaving)
	if found.renewed = found.err == nil; found.renewed {
		found.leases, found.err = o.leases.list(ctx)
	}
	if a.tell {
		o.nc.Publish(proto.SubjectServiceChanged, nil)
	}
	return found
}

// measure looks for markers that the stream may soon drop for space.
func (o *Owner) measure(ctx context.Context) {
	for p, f := range o.fences {
		if f != nil && o.state.parts[p].state == owned && f.Worn() {
			o.step(ctx, worn{p})
		}
	}
}

func (o *Owner) finished(ctx context.Context, r any) {
	switch r := r.(type) {
	case released:
		o.fences[r.p] = nil
		o.step(ctx, r)
	case result:
		if r.err != nil {
			o.step(ctx, failed{r.p, r.ours, r.err})
			return
		}
		o.fences[r.p] = r.fence
		o.step(ctx, acquired{r.p})
		// The fence may have become void before it was known here that it was taken.
		if err := r.fence.Void(); err != nil {
			o.step(ctx, lost{r.p, err})
		}
	}
}

// asked handles the request of another instance for a partition.
func (o *Owner) asked(ctx context.Context, msg *nats.Msg) {
	p, err := strconv.Atoi(string(msg.Data))
	if err != nil || p < 0 || p >= proto.Partitions {
		return
	}
	if o.state.parts[p].state != releasing {
		o.replies[p] = msg.Reply
	}
	o.step(ctx, asked{p})
}

// ownPrefix is the beginning of every [proto.OwnSubject].
const ownPrefix = "room.own."

// marked handles a marker that some instance has written. If the partition is owned here, its
// fence is lost, or will be soon, and the next command need not find out. This may be missed.
func (o *Owner) marked(ctx context.Context, msg *nats.Msg) {
	p, err := strconv.Atoi(strings.TrimPrefix(msg.Subject, ownPrefix))
	var m stream.Marker
	if err != nil || p < 0 || p >= proto.Partitions || json.Unmarshal(msg.Data, &m) != nil || m.Owner == o.cfg.ID {
		return
	}
	o.step(ctx, taken{p, m.Owner})
}

// close releases what is left, and gives up the lease last: until then no other instance takes
// a fence by force.
func (o *Owner) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Lease)
	defer cancel()
	for p := range o.state.parts {
		if o.state.parts[p].state == owned {
			o.tasks.Go(func() { o.partitions.Release(p) })
		}
	}
	o.tasks.Wait()
	o.held.Store(0)
	o.trusted.Store(0)
	o.lease.Store(0)
	if err := o.leases.end(ctx); err != nil && !errors.Is(err, context.Canceled) {
		o.cfg.Log.Warn("lease is left to run out", "error", err)
	}
	o.nc.Publish(proto.SubjectServiceChanged, nil)
	o.nc.FlushWithContext(ctx)
}
