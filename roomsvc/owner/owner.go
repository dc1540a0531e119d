// Package owner decides which instance owns which partition.
//
// An instance is alive while it renews its lease, a key in the bucket ROOMSVC. Rendezvous hashing
// chooses one live instance for each partition. So when instance a starts or stops, no partition
// moves between two other instances. An instance that should own a partition asks the owner to
// release it, and then takes the fence. If the owner does not answer, the instance takes the fence
// by force. For a moment, instances may disagree about which of them are alive. A partition may
// then change its owner once more than necessary, but it never has two. Safety rests on the fence
// alone (see package stream), and on no clock.
//
// The rules are in ownership.go and step.go, which do no I/O. The function step turns an event into
// actions, and the rest of the package carries the actions out:
//
//	events: leases, requests, markers, results -> step -> actions: look, acquire, renew, release, refuse
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

// Config names an instance and sets the times of its lease and markers.
type Config struct {
	ID       string        // of this instance; it must be a token of a NATS subject
	Lease    time.Duration // at least a second
	Replicas int           // of the bucket of leases
	Renew    time.Duration // age at which an owner writes its marker again, so that the stream does not drop the marker; see package stream
	Log      *slog.Logger
}

// Before says which instance has owned a partition until now. Commands for the partition may wait
// in this instance, and the former owner may have answered them already.
type Before int8

const (
	ThisInstance    Before = iota // so nobody has answered the commands that wait here
	AnotherInstance               // it is alive, and may answer commands that also wait here; senders resend them with the same key
	Nobody                        // no live instance, but a dead one may have answered commands that wait here
)

// Partitions answers the commands of partitions; package service implements it. The owner makes one
// call at a time for each partition.
type Partitions interface {
	// Prepare begins to receive and queue the commands of a partition. The owner calls it before it
	// takes the partition's fence. The fence will report to the returned sink.
	Prepare(p int, before Before) (stream.Sink, error)
	// Pause stops answering commands and queues them instead. The owner calls it before it renews
	// the partition's fence.
	Pause(p int) stream.Sink
	// Take begins to answer commands. The fence f reports to the sink from the last call of Prepare
	// or Pause.
	Take(p int, f *stream.Fence)
	// Fail says that the owner could not take the partition and will try again. The argument ours
	// is true if no other instance is known to own it.
	Fail(p int, ours bool)
	// Release stops answering commands. It returns when all commits have a result. This takes at
	// most the commit deadline.
	Release(p int)
}

// Owner acquires and keeps this instance's share of the partitions. Its methods are safe for
// concurrent use; Open and Run are called once, in this order.
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

	// Set by Run, safe for concurrent use.
	held    atomic.Int32
	lease   atomic.Int64 // end of the lease, in nanoseconds since start
	trusted atomic.Int64 // the time until which no other instance can have taken a partition, in nanoseconds since start
	trouble atomic.Pointer[error]

	// Owned by Run.
	state      *ownership
	fences     [proto.Partitions]*stream.Fence // of the acquired partitions
	replies    [proto.Partitions]string        // where to answer the instances that have asked for partitions
	reconnects uint64
}

// loss reports a fence that has become void.
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

// Lost tells the owner that a partition's fence is void. The caller calls it at most once for each
// Take.
func (o *Owner) Lost(p int, f *stream.Fence, err error) { o.lost <- loss{p, f, err} }

// Held returns how many partitions this instance owns.
func (o *Owner) Held() int { return int(o.held.Load()) }

// Trusted returns true if no other instance can have taken a partition of this instance. For
// example, it returns false after this process was paused for longer than its lease.
func (o *Owner) Trusted() bool { return int64(time.Since(o.start)) < o.trusted.Load() }

// leased reports whether this instance's lease has not expired.
func (o *Owner) leased() bool { return int64(time.Since(o.start)) < o.lease.Load() }

// Err returns nil if this instance owns all partitions that it should own. Otherwise it returns the
// reason.
func (o *Owner) Err() error {
	if err := o.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Run takes this instance's share of the partitions and keeps it until ctx ends. Then it hands
// its partitions over to the other instances and waits for its own tasks.
func (o *Owner) Run(ctx context.Context) error {
	// When ctx has ended, handing over the partitions may take as long as a lease.
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
			o.cfg.Log.Warn("no instance asked for the last partitions in time", "partitions", o.Held())
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
			// A gateway asks here whether its NATS server reaches a majority of the servers. An
			// instance that can renew its lease reaches a majority. If its answer arrives, the
			// gateway's server reaches that majority too. An instance without a lease does not answer.
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

// step applies the rules to an event, makes the new state visible to other goroutines, and carries
// out the actions.
func (o *Owner) step(ctx context.Context, e event) {
	actions := o.state.step(e, time.Now())
	o.publish()
	for _, a := range actions {
		o.do(ctx, a)
	}
}

func (o *Owner) publish() {
	o.held.Store(int32(o.state.held()))
	o.trusted.Store(int64(o.state.trusted().Sub(o.start))) // negative for the zero time
	o.lease.Store(int64(o.state.until.Sub(o.start)))
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
		alive := o.state.peers.snapshot()
		if !o.state.peers.sighted() {
			alive = func(id string) bool { return id != "" } // nobody knows which instances are alive, so ask every owner: a dead instance just does not answer
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

// look renews the lease of this instance and reads the leases of all instances.
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

// measure finds the markers that the stream may soon drop because of its size limit. For each it
// makes the event worn. Then the rules renew the marker.
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
		// The fence may have become void before Run received this result.
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

// marked handles the news that some instance has written a marker. If this instance owns the
// partition, and another instance has written its marker, the fence of this instance is void. NATS
// may lose this message. Then the next commit fails, and so shows that the fence is void.
func (o *Owner) marked(ctx context.Context, msg *nats.Msg) {
	p, err := strconv.Atoi(strings.TrimPrefix(msg.Subject, ownPrefix))
	var m stream.Marker
	if err != nil || p < 0 || p >= proto.Partitions || json.Unmarshal(msg.Data, &m) != nil || m.Owner == o.cfg.ID {
		return
	}
	o.step(ctx, taken{p, m.Owner})
}

// close releases the remaining partitions. It ends the lease last. As long as the lease lasts,
// other instances ask for partitions instead of taking them by force.
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
		o.cfg.Log.Warn("cannot end the lease; it will expire", "error", err)
	}
	o.nc.Publish(proto.SubjectServiceChanged, nil)
	o.nc.FlushWithContext(ctx)
}
