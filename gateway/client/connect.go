package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"roomcast/proto"
)

// connector keeps the client connected. It belongs to the goroutine of run. For each session, run
// starts two more goroutines and waits for them.
type connector struct {
	cfg   *Config
	state *state
	begun chan struct{} // closed and set to nil when the first session begins

	credential func(context.Context) (string, error) // returns a token, or a ticket if tickets is true; nil = always a guest
	tickets    bool

	failure     error                  // error of the last try
	presented   atomic.Pointer[string] // the newest credential that the client has sent
	expired     *CloseError            // the newest close with code 4003; nil = no credential has expired
	expirations int                    // how often servers have called the newest credential expired
}

// run opens one session after the other. It ends with ctx, or after an error which says that
// another try cannot succeed.
func (c *connector) run(ctx context.Context) {
	next := rand.IntN(len(c.cfg.URLs))
	for failures := 0; ; {
		lasted, err := c.session(ctx, c.cfg.URLs[next%len(c.cfg.URLs)])
		next++
		if ctx.Err() != nil {
			c.state.end(ErrClosed)
			return
		}
		c.failure = err
		if c.noteExpired(err); !reconnect(err) {
			c.state.end(err)
			return
		}
		if lasted > stable {
			failures = 0
		}
		wait := backoff(failures, c.cfg.MinBackoff, c.cfg.MaxBackoff)
		failures++
		c.state.lost(Link{Err: err, Again: wait})
		select {
		case <-time.After(max(wait, retryAfter(err))):
		case <-ctx.Done():
		}
	}
}

// backoff returns a random time to wait, below a bound that begins at low and doubles with each
// failure up to high.
func backoff(failures int, low, high time.Duration) time.Duration {
	bound := min(high, low<<min(failures, 16))
	return rand.N(bound) + 1
}

// stable is a time. Only a session that has lasted longer resets the backoff: each session may end
// for the same reason, soon after its begin.
const stable = 5 * time.Second

// session opens a connection, serves it and returns when it has ended. It also returns how long the
// session has lasted; 0 = no session had begun.
func (c *connector) session(ctx context.Context, base string) (lasted time.Duration, err error) {
	number, resume := c.state.upcoming()
	l, err := c.open(ctx, number, base, resume)
	if err != nil {
		return 0, err
	}
	unblock := context.AfterFunc(ctx, func() { l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer unblock()
	defer l.conn.Close()

	l.conn.SetReadDeadline(time.Now().Add(dialTimeout))
	p, err := l.next()
	if err != nil {
		return 0, fmt.Errorf("read hello: %w", err)
	}
	in, err := parseFrame(p)
	if err != nil || in.Hello == nil {
		return 0, errors.New("read hello: the first frame is not a hello")
	}
	c.received(number, p)
	if c.tickets && proto.IsGuest(in.Hello.You.ID) {
		c.state.forgetResume()
		return 0, errors.New("the server took the client for a guest")
	}
	l.conn.SetReadDeadline(time.Time{})
	if ctx.Err() != nil { // when ctx ends, a deadline is set, and the line above may have removed it
		return 0, ctx.Err()
	}

	begun := time.Now()
	c.state.attach(in.Hello)
	if c.begun != nil {
		close(c.begun)
		c.begun = nil
	}
	quit := make(chan struct{})
	held, end := context.WithCancel(ctx)
	defer end()
	var tasks sync.WaitGroup
	tasks.Go(func() { c.write(ctx, l, quit) })
	tasks.Go(func() { c.refresh(held, in.Hello) })
	err = c.read(l)
	close(quit)
	end()
	tasks.Wait()
	c.state.detach()
	if c.cfg.Trace.Ended != nil {
		c.cfg.Trace.Ended(number, err)
	}
	return time.Since(begun), err
}

// read passes the received frames to the state until the connection ends.
func (c *connector) read(l *link) error {
	for {
		p, err := l.next()
		if err != nil {
			return err
		}
		if p == nil {
			signal(c.state.wake) // the frame may be a ping, to which write must reply
			continue
		}
		c.received(l.number, p)
		if err := c.state.receive(p); err != nil {
			return err
		}
	}
}

// write sends due commands and pongs, and pings a silent server. It ends if the server does not
// answer, if ctx ends, or if quit is closed. Then it closes the connection.
func (c *connector) write(ctx context.Context, l *link, quit chan struct{}) {
	defer l.conn.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
			l.flush()
			return
		case <-quit:
			return
		case <-c.state.wake:
		case <-timer.C:
		}
		now := time.Now()
		p := c.state.due(now)
		for _, frame := range p.frames {
			if c.cfg.Trace.Sent != nil {
				c.cfg.Trace.Sent(l.number, frame)
			}
			l.frame(ws.NewTextFrame(frame))
		}
		if ping := l.pinged.Swap(nil); ping != nil {
			l.frame(ws.NewPongFrame(*ping))
		}
		alive, next := l.watch(now, c.cfg.Quiet)
		if !p.patient || !alive || l.flush() != nil {
			return
		}
		timer.Reset(min(p.wait, next))
	}
}

func (c *connector) received(link int, p []byte) {
	if c.cfg.Trace.Received != nil {
		c.cfg.Trace.Received(link, p)
	}
}
