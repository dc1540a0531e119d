package client

import (
	"context"
	"encoding/json"
	"time"

	"roomcast/proto"
)

// Notice is one thing the client has to tell: exactly one of the pointers is set. Events
// of a room come in the order of their seq, each once, without a hole unless a gap says so.
type Notice struct {
	Room     proto.Room // zero for Hello and Link
	Event    *proto.Event
	Gap      *proto.Gap
	Signal   *Signal
	Presence *Presence
	Refused  *proto.Refusal // the room has been closed, or could not be joined again: it is left
	Hello    *Hello         // a session stands
	Link     *Link          // a connection has ended
}

// Hello is how the server greets a session.
type Hello struct {
	Session string
	You     proto.Identity
	Resume  string
	Time    time.Time // of the server
}

// Link says why a connection ended, or could not be made, and when the next try is.
type Link struct {
	Err   error
	Again time.Duration
}

// Signal is what somebody told those present; it is not stored.
type Signal struct {
	Type string
	From proto.Identity
	Data json.RawMessage // nil if none
}

// Presence says that a member has come or gone. Who is zero in big rooms.
type Presence struct {
	Who    proto.Identity
	Count  int               // of members, as far as the sending gateway knows
	Left   bool              // gone; otherwise come
	Reason proto.LeaveReason // of going
}

// Next returns the next notice, in order. It waits for one until ctx ends. After the
// client has ended and everything was taken it returns why it ended; see [Client.Err].
func (c *Client) Next(ctx context.Context) (Notice, error) {
	for {
		c.mu.Lock()
		if len(c.queue) > 0 {
			n := c.queue[0]
			c.queue[0] = Notice{}
			c.queue = c.queue[1:]
			if len(c.queue) > 0 {
				signal(c.arrived) // for another caller of Next
			} else {
				c.queue = nil
				signal(c.wake) // rooms that lag may be joined again
			}
			c.mu.Unlock()
			return n, nil
		}
		err := c.err
		c.mu.Unlock()
		if err != nil {
			signal(c.arrived)
			return Notice{}, err
		}
		select {
		case <-c.arrived:
		case <-ctx.Done():
			return Notice{}, ctx.Err()
		}
	}
}

// notify keeps n for Next and reports whether there was room for it. c.mu is held.
func (c *Client) notify(n Notice) bool {
	if len(c.queue) >= c.cfg.Buffer {
		return false
	}
	c.queue = append(c.queue, n)
	signal(c.arrived)
	return true
}
