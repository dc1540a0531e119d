package service

import (
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/roomsvc/owner"
	"roomcast/roomsvc/stream"
)

// The methods by which package owner says what to do with a partition: [owner.Partitions].

// hearing is the subscription of a partition, and the tenure that is being prepared.
type hearing struct {
	mu   sync.Mutex // guards what follows
	sub  *nats.Subscription
	next *tenure
}

// Prepare subscribes to the partition's own subject, where commands come if the account
// maps room.* to it, and keeps what comes until the partition is taken. What is to be shed
// is sent again by those who still wait for it: the instance that may have answered it may
// have refused it, because the room was closed, say, which the log does not tell, and by now
// the room may have been reopened.
func (s *Service) Prepare(number int, before owner.Before) (stream.Sink, error) {
	p := s.parts[number]
	t := newTenure(p)
	if err := s.hear(p, t); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", proto.InSubject(number), err)
	}
	// What was heard until now is the old owner's, or so old that its sender has given it up:
	// an instance that was paused hears all of the past at once.
	if err := s.barrier(); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", proto.InSubject(number), err)
	}
	if before == owner.Nobody {
		p.orders <- order{shed: true}
	}
	p.standing.CompareAndSwap(int32(absent), int32(coming))
	if before != owner.AnotherInstance {
		p.standing.CompareAndSwap(int32(coming), int32(waiting))
	}
	return t, nil
}

// Pause ends the partition's tenure, and keeps what comes for the next one.
func (s *Service) Pause(number int) stream.Sink {
	p := s.parts[number]
	t := newTenure(p)
	p.hearing.mu.Lock()
	p.hearing.next = t
	p.hearing.mu.Unlock()
	done := make(chan struct{})
	p.orders <- order{done: done, keep: true}
	<-done
	return t
}

func (s *Service) hear(p *partition, t *tenure) (err error) {
	p.hearing.mu.Lock()
	defer p.hearing.mu.Unlock()
	p.hearing.next = t
	if p.hearing.sub == nil || !p.hearing.sub.IsValid() {
		p.hearing.sub, err = s.nc.ChanSubscribe(proto.InSubject(p.number), s.arrivals)
	}
	return err
}

// Take begins the tenure that was prepared.
func (s *Service) Take(number int, f *stream.Fence) {
	p := s.parts[number]
	p.hearing.mu.Lock()
	t := p.hearing.next
	p.hearing.mu.Unlock()
	t.fence = f
	p.orders <- order{take: t}
	s.cfg.Log.Debug("partition taken", "partition", number)
}

// Fail has commands refused until the partition is taken after all, or passed over if
// another instance may be there to answer them.
func (s *Service) Fail(number int, ours bool) {
	s.parts[number].orders <- order{refuse: ours}
}

// Release ends the partition's tenure when nothing is on its way.
func (s *Service) Release(number int) {
	p := s.parts[number]
	done := make(chan struct{})
	p.orders <- order{done: done}
	<-done
	p.hearing.mu.Lock()
	defer p.hearing.mu.Unlock()
	if p.hearing.sub != nil {
		if err := p.hearing.sub.Unsubscribe(); err != nil && s.nc.IsConnected() {
			s.cfg.Log.Warn("partition is still heard", "partition", number, "error", err)
		}
		p.hearing.sub = nil
	}
	s.cfg.Log.Debug("partition released", "partition", number)
}
