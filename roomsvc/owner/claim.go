package owner

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// How partitions change hands: taken, released, asked for, lost.

// Bounds of taking partitions.
const (
	atOnce     = 16                     // partitions taken at a time
	askTimeout = 500 * time.Millisecond // for the old owner to release one
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// drop releases everything, for the lease was over: what another instance has taken
// meanwhile would go unnoticed until the next commit. What should be ours is taken again.
func (o *Owner) drop() {
	dropped := 0
	for p := range o.parts {
		if o.parts[p].phase == held {
			o.release(p, nil)
			dropped++
		}
	}
	o.dropping += dropped
	if dropped > 0 {
		o.cfg.Log.Warn("lease was over; its partitions are taken anew", "partitions", dropped)
	}
}

// release begins to release p, which is held or was to be; then is called when it is done.
func (o *Owner) release(p int, then func()) {
	if o.parts[p].phase == held {
		o.held.Add(-1)
	}
	o.parts[p].phase = releasing
	o.busy++
	o.tasks.Go(func() {
		// A commit that is on its way ends by its deadline.
		o.keeper.Release(p)
		o.done <- result{p: p, then: then}
	})
}

// share begins to take the partitions that should be this instance's, and to renew the
// fences that are getting old. It takes nothing without a fresh lease: an instance that
// cannot renew its lease may be cut off from a majority of the servers, and would take
// partitions over and over from those that are not. What it failed to take or lost, and
// should be another's by now, it releases: the keeper would answer for it, refusing, before
// the owner could.
func (o *Owner) share(ctx context.Context, leaving bool) {
	now, all, fresh := time.Now(), o.members.sighted(), o.leases.fresh()
	for p := range o.parts {
		part := &o.parts[p]
		elsewhere := !o.chosen[p] || leaving && !o.members.alone(o.cfg.ID)
		switch {
		case part.phase == idle && part.heard && elsewhere:
			o.release(p, func() {})
		case leaving:
		case part.phase == held && o.busy < atOnce && (now.Sub(part.since) > o.cfg.Renew || part.fence.Worn()):
			part.phase, part.renewing = taking, true
			o.busy++
			o.held.Add(-1)
			o.tasks.Go(func() { o.done <- o.renew(ctx, p) })
		case part.phase == idle && o.chosen[p]:
			all = false
			switch {
			case !fresh:
				o.fail(p) // what comes meanwhile is refused and not kept
			case o.busy < atOnce && !now.Before(part.next):
				part.phase, part.heard, part.failed = taking, true, false
				o.busy++
				alive := o.members.snapshot()
				ours := part.ours
				o.tasks.Go(func() { o.done <- o.take(ctx, p, ours, alive) })
			}
		case part.phase != held && !part.renewing && o.chosen[p]:
			all = false
		}
	}
	if all && !leaving {
		o.note(nil)
	}
}

// errNoLease: what should be taken is left to those who have a lease.
var errNoLease = errors.New("the lease cannot be renewed")

// take gets the fence of p, from its owner if that one is alive.
func (o *Owner) take(ctx context.Context, p int, ours bool, alive func(id string) bool) result {
	r := result{p: p, ours: ours}
	for range 3 {
		var marker stream.Marker
		if marker, r.err = o.commits.Marker(ctx, p); r.err != nil {
			return r
		}
		var sink stream.Sink
		was := marker.Owner == o.cfg.ID
		r.ours = was || !alive(marker.Owner)
		if sink, r.err = o.keeper.Prepare(p, r.ours, r.ours && !was); r.err != nil {
			return r
		}
		if !r.ours {
			o.ask(ctx, p, marker.Owner)
			if sink, r.err = o.keeper.Prepare(p, true, true); r.err != nil {
				return r
			}
		}
		if !o.leases.fresh() {
			r.err = errNoLease
			return r
		}
		var f *stream.Fence
		f, r.err = o.commits.Fence(ctx, p, marker, o.cfg.ID, sink)
		if errors.Is(r.err, stream.ErrLost) {
			continue // somebody was faster, or renewed the fence meanwhile
		}
		if r.err == nil {
			r.fence = f
			o.keeper.Take(p, f)
		}
		return r
	}
	r.ours = false
	return r
}

// ask asks the owner of p to release it, and waits until it has, or too long.
func (o *Owner) ask(ctx context.Context, p int, owner string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := o.nc.RequestWithContext(ctx, proto.ReleaseSubject(owner), []byte(strconv.Itoa(p)))
	if err != nil && !errors.Is(err, nats.ErrNoResponders) {
		o.cfg.Log.Warn("partition is taken by force", "partition", p, "from", owner, "error", err)
	}
}

// renew takes the fence of p anew, from ourselves.
func (o *Owner) renew(ctx context.Context, p int) result {
	r := result{p: p, ours: true}
	sink := o.keeper.Pause(p)
	marker, err := o.commits.Marker(ctx, p)
	if r.err = err; err != nil {
		return r
	}
	if r.ours = marker.Owner == o.cfg.ID; !r.ours {
		r.err = stream.ErrLost
		return r
	}
	f, err := o.commits.Fence(ctx, p, marker, o.cfg.ID, sink)
	if r.err = err; err == nil {
		r.fence = f
		o.keeper.Take(p, f)
	}
	return r
}

// asked releases a partition that another instance asks for.
func (o *Owner) asked(msg *nats.Msg) {
	p, err := strconv.Atoi(string(msg.Data))
	if err != nil || p < 0 || p >= proto.Partitions {
		return
	}
	reply := func() { o.nc.Publish(msg.Reply, nil) }
	switch o.parts[p].phase {
	case held:
		o.release(p, reply)
	case idle, taking:
		reply() // who takes it first has it
	}
	// Being released: the one who asks waits, or finds out by the fence.
}

// ownPrefix is what every [proto.OwnSubject] begins with.
const ownPrefix = "room.own."

// overheard sees somebody take a fence. If it is one of ours, it is released: it is lost,
// or was nearly so, and the next command should not have to find out. This is a courtesy;
// it may be missed.
func (o *Owner) overheard(msg *nats.Msg) {
	p, err := strconv.Atoi(strings.TrimPrefix(msg.Subject, ownPrefix))
	var m stream.Marker
	if err != nil || p < 0 || p >= proto.Partitions || json.Unmarshal(msg.Data, &m) != nil {
		return
	}
	if m.Owner != o.cfg.ID && o.parts[p].phase == held {
		o.cfg.Log.Warn("partition was taken by force", "partition", p, "by", m.Owner)
		o.release(p, func() {})
	}
}

// finished takes note of what a task has come to.
func (o *Owner) finished(ctx context.Context, r result, leaving bool) {
	part := &o.parts[r.p]
	part.renewing = false
	o.busy--
	switch {
	case part.phase == releasing && r.then == nil:
		part.phase, part.next, part.ours, part.heard = idle, time.Time{}, false, false
		o.dropping--
		if !o.looking { // a look may just have found that the lease was over
			o.doubt.Store(o.dropping > 0)
		}
	case part.phase == releasing:
		// The one who asked sees more than we do; until we see it too, leave it alone.
		part.phase, part.next, part.ours, part.heard = idle, time.Now().Add(o.cfg.Lease/2), false, false
		r.then()
	case r.err == nil:
		part.phase, part.fence, part.since, part.pause, part.ours = held, r.fence, time.Now(), 0, true
		o.held.Add(1)
		// The loss may have been told before this, when there was nothing to lose yet.
		if err := r.fence.Void(); err != nil {
			o.give(ctx, loss{r.p, r.fence, err}, leaving)
		}
	default:
		part.phase, part.ours = idle, r.ours
		o.wait(part)
		o.fail(r.p)
		o.note(r.err)
	}
}

// fail tells the keeper once that p cannot be taken now.
func (o *Owner) fail(p int) {
	if part := &o.parts[p]; part.heard && !part.failed {
		part.failed = true
		o.keeper.Fail(p, part.ours)
	}
}

// give takes note of a lost partition. It may be told twice of one fence, and of one that
// has been followed by another.
func (o *Owner) give(ctx context.Context, l loss, leaving bool) {
	part := &o.parts[l.p]
	if part.phase != held || part.fence != l.fence {
		return // it is being released or taken anyway
	}
	part.phase, part.failed = idle, false
	o.held.Add(-1)
	if errors.Is(l.err, stream.ErrLost) {
		part.ours = false
		o.cfg.Log.Warn("partition lost", "partition", l.p, "error", l.err)
		o.wait(part)
		o.look(ctx, leaving) // who has it knows something that we do not
	}
}

// wait puts the next try of a partition off, longer each time.
func (o *Owner) wait(part *part) {
	part.pause = min(lastPause, max(firstPause, 2*part.pause))
	part.next = time.Now().Add(part.pause)
}
