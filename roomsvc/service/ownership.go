package service

import (
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/roomsvc/owner"
	"roomcast/roomsvc/stream"
)

// partitions carries out the decisions of package owner. It implements [owner.Partitions].
type partitions struct{ s *Service }

// subscription is a partition's subscription to its own subject. It also has the next term: Prepare
// or Pause makes the term, and Take begins it. It is safe for concurrent use.
type subscription struct {
	mu   sync.Mutex // guards the fields below
	sub  *nats.Subscription
	next *term
}

// Prepare makes the partition's next term. It subscribes to the partition's own subject, where
// commands arrive if the NATS account maps room.<name> to it. A dead former owner may have answered
// commands that also wait in this instance's queue. Prepare refuses these commands, and their
// senders try again. An answer could contradict the former owner. For example, the former owner may
// have refused a message because the room was closed, and the log does not record refusals.
func (ps partitions) Prepare(number int, before owner.Before) (stream.Sink, error) {
	p := ps.s.parts[number]
	t := newTerm(p)
	err := p.subscribe(t)
	if err == nil {
		// The intake still ignores the messages that arrive until barrier returns. They are for the
		// old owner, or they are too old. For example, an instance that was paused receives all
		// missed messages at once, but their senders have given up.
		err = ps.s.barrier()
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", proto.InSubject(number), err)
	}
	if before == owner.Nobody {
		p.orders <- refuseWaiting{}
	}
	p.intake.CompareAndSwap(int32(foreign), int32(acquiring))
	if before != owner.AnotherInstance {
		p.intake.CompareAndSwap(int32(acquiring), int32(acquiringAlone))
	}
	return t, nil
}

// Pause ends the partition's term. Commands that arrive then wait for the next term, which Pause
// returns.
func (ps partitions) Pause(number int) stream.Sink {
	p := ps.s.parts[number]
	t := newTerm(p)
	p.subscription.mu.Lock()
	p.subscription.next = t
	p.subscription.mu.Unlock()
	done := make(chan struct{})
	p.orders <- pause{done}
	<-done
	return t
}

// Take begins the prepared term.
func (ps partitions) Take(number int, f *stream.Fence) {
	p := ps.s.parts[number]
	p.subscription.mu.Lock()
	t := p.subscription.next
	p.subscription.mu.Unlock()
	t.fence = f
	p.orders <- begin{t}
	ps.s.cfg.Log.Debug("partition taken", "partition", number)
}

// Fail makes the partition refuse commands until the owner has taken the partition. If another
// instance may answer the commands, the partition ignores them instead.
func (ps partitions) Fail(number int, ours bool) {
	if ours {
		ps.s.parts[number].orders <- refuseAll{}
	} else {
		ps.s.parts[number].orders <- passOver{}
	}
}

// Release waits until no command of the partition is under way, and ends its term.
func (ps partitions) Release(number int) {
	p := ps.s.parts[number]
	done := make(chan struct{})
	p.orders <- release{done}
	<-done
	p.unsubscribe()
	ps.s.cfg.Log.Debug("partition released", "partition", number)
}

func (p *partition) subscribe(t *term) (err error) {
	p.subscription.mu.Lock()
	defer p.subscription.mu.Unlock()
	p.subscription.next = t
	if p.subscription.sub == nil || !p.subscription.sub.IsValid() {
		p.subscription.sub, err = p.s.nc.ChanSubscribe(proto.InSubject(p.number), p.s.arrivals)
	}
	return err
}

func (p *partition) unsubscribe() {
	p.subscription.mu.Lock()
	defer p.subscription.mu.Unlock()
	if p.subscription.sub == nil {
		return
	}
	if err := p.subscription.sub.Unsubscribe(); err != nil && p.s.nc.IsConnected() {
		p.s.cfg.Log.Warn("unsubscribe from partition", "partition", p.number, "error", err)
	}
	p.subscription.sub = nil
}
