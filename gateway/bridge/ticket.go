package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"roomcast/proto"
)

// maxTickets is how many tickets may wait to be marked as used. UseTicket fails for further
// tickets.
const maxTickets = 1024

// ticketTime is the time limit for marking one ticket.
const ticketTime = 2 * time.Second

// ticket is a ticket that waits to be marked as used.
type ticket struct {
	number string
	done   func(first bool, err error)
}

// UseTicket marks a ticket as used. Then it calls done. Its argument first is true if no gateway
// had marked the ticket before. UseTicket never blocks. Usually another goroutine calls done. If
// too many tickets wait already, or the bridge has ended, UseTicket calls done with an error before
// it returns.
func (b *Bridge) UseTicket(number string, done func(first bool, err error)) {
	if !b.tickets.Offer(ticket{number, done}, 1) {
		done(false, errors.New("too many tickets wait, or the gateway has stopped"))
	}
}

// markTickets marks the waiting tickets until ctx ends.
func (b *Bridge) markTickets(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	open := make(chan struct{}, maxTickets)
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.tickets.Wake():
		}
		for _, t := range b.tickets.Take(nil) {
			open <- struct{}{}
			running.Go(func() {
				defer func() { <-open }()
				t.done(markTicket(ctx, b, t.number))
			})
		}
	}
}

func markTicket(ctx context.Context, b *Bridge, number string) (first bool, err error) {
	var used proto.Used
	if err := b.askService(ctx, proto.SubjectTicket, proto.UseTicket{Number: number}, &used); err != nil {
		return false, err
	}
	if used.Error != "" {
		return false, errors.New(used.Error)
	}
	return used.First, nil
}

// askService sends a request to one of the room service's instances and reads the answer.
func (b *Bridge) askService(ctx context.Context, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ticketTime)
	defer cancel()
	m, err := b.sayConn.RequestWithContext(ctx, subject, body)
	if err != nil {
		return fmt.Errorf("ask on %s: %w", subject, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("read answer on %s: %w", subject, err)
	}
	return nil
}
