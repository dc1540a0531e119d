package owner

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// askTimeout is how long the old owner may take to release a partition. After that time the new
// owner takes the fence without its consent ("by force").
const askTimeout = 500 * time.Millisecond

// result is the result of an attempt to take a fence.
type result struct {
	p     int
	fence *stream.Fence // nil with err
	ours  bool          // no other instance is known to own the partition
	err   error
}

// take takes the fence of partition p. If the present owner may be alive, take first asks it to
// release p.
func (o *Owner) take(ctx context.Context, p int, ours bool, alive func(id string) bool) result {
	r := result{p: p, ours: ours}
	for range 3 {
		var marker stream.Marker
		if marker, r.err = o.commits.Marker(ctx, p); r.err != nil {
			return r
		}
		before := Nobody
		switch {
		case marker.Owner == o.cfg.ID:
			before = ThisInstance
		case alive(marker.Owner):
			before = AnotherInstance
		}
		r.ours = before != AnotherInstance
		var sink stream.Sink
		if sink, r.err = o.partitions.Prepare(p, before); r.err != nil {
			return r
		}
		if before == AnotherInstance {
			o.ask(ctx, p, marker.Owner)
			if sink, r.err = o.partitions.Prepare(p, Nobody); r.err != nil {
				return r
			}
		}
		if !o.leased() {
			r.err = errNoLease
			return r
		}
		r.fence, r.err = o.commits.Fence(ctx, p, marker, o.cfg.ID, sink)
		if errors.Is(r.err, stream.ErrLost) {
			continue // another instance has taken the fence, or has just renewed its fence
		}
		if r.err == nil {
			o.partitions.Take(p, r.fence)
		}
		return r
	}
	r.ours = false
	return r
}

// ask asks the owner of partition p to release it. It waits for the answer, at most for askTimeout.
func (o *Owner) ask(ctx context.Context, p int, owner string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := o.nc.RequestWithContext(ctx, proto.ReleaseSubject(owner), []byte(strconv.Itoa(p)))
	if err != nil && !errors.Is(err, nats.ErrNoResponders) {
		o.cfg.Log.Warn("partition is taken by force", "partition", p, "from", owner, "error", err)
	}
}

// renew takes a new fence of partition p, which this instance owns already.
func (o *Owner) renew(ctx context.Context, p int) result {
	r := result{p: p, ours: true}
	sink := o.partitions.Pause(p)
	marker, err := o.commits.Marker(ctx, p)
	if r.err = err; err != nil {
		return r
	}
	if r.ours = marker.Owner == o.cfg.ID; !r.ours {
		r.err = stream.ErrLost
		return r
	}
	r.fence, r.err = o.commits.Fence(ctx, p, marker, o.cfg.ID, sink)
	if r.err == nil {
		o.partitions.Take(p, r.fence)
	}
	return r
}
