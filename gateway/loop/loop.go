// Package loop runs event loops: each owns a listener, the connections it
// accepted and their deadlines, and calls one [Handler] with their events. Only
// the loop's own goroutine touches its state, so there is no lock, no goroutine,
// no timer and no buffer per connection.
//
// Two backends implement the same [Loop]: epoll on Linux, and a portable one with
// goroutines per connection for other systems and for TLS. They differ in cost; a
// Handler sees no difference.
//
// # Reading order
//
// This file: the contract of a loop, and its one iteration in [Loop.Run]. slab.go:
// the state of a connection. epoll_linux.go: how bytes come and go.
// wheel.go: deadlines. waker.go: how other goroutines wake a loop.
package loop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"time"

	"roomcast/gateway/mailbox"
)

// ID names one connection of one loop: its slot in the low 32 bits, the slot's
// generation in the high 32. It is never used again, so a late call with the ID
// of a connection that is gone does nothing. The zero ID names no connection.
type ID uint64

// Slot returns the connection's place in the loop's slab: small, dense, and
// used again once the connection is gone. Handlers index their own slabs by it.
func (id ID) Slot() uint32 { return uint32(id) }

// Handler serves the connections of a loop. All calls come from the loop's
// goroutine, one at a time; none may block. A handler may call the loop's
// methods from any of them.
type Handler interface {
	// Opened says that a connection has been accepted.
	Opened(id ID, peer netip.AddrPort)

	// Received passes all bytes that have not been used yet. It returns how many
	// of them, from the front, are now used; the rest comes back in front of the
	// next bytes. The handler may change p in place, also the rest. p is valid
	// only during the call. It is never called for a paused connection. A panic
	// in it closes this connection only.
	Received(id ID, p []byte) (used int)

	// Writable says that a connection takes bytes again whose Write took less
	// than it was given.
	Writable(id ID)

	// Due says that the time given to SetDeadline has passed.
	Due(id ID)

	// Gone is the last call for a connection, exactly once for every Opened and
	// every Adopt, no matter who closed it; never from inside another call of the
	// handler. why is
	// [ErrClosed] after Close, [ErrDetached] after Detach, io.EOF if the peer has
	// closed and everything it sent has been received, otherwise what went wrong.
	Gone(id ID, why error)

	// Turn ends an iteration. The handler writes the bytes that it has gathered. busy
	// asks for the next iteration at once instead of waiting for an event.
	Turn() (busy bool)
}

// A Loop accepts and serves connections from one goroutine, the one that called
// Run. Only Post and Wake may be called from elsewhere.
type Loop struct {
	// Static after construction.
	cfg  Config
	back backend

	posts *mailbox.Box[func()]
	waker waker

	// Owned by the loop's goroutine.
	batch   []func() // taken from posts
	posted  []func() // the rest of batch, to be run
	handler Handler
	start   time.Time // of the loop's clock
	now     time.Time // when this iteration began
	conns   slab
	wheel   wheel
	ended   []death // closed in this turn, Gone not yet called
	reading ID      // whose Received is running, 0 if nobody's
	unread  []byte  // the bytes of that call
	stats   Stats
}

// backend is the half of a loop that knows sockets. All methods but wake are
// called from the loop's goroutine; c is the slab's entry of a live connection.
type backend interface {
	start()                        // begins to accept
	poll(wait time.Duration) error // waits for events, for ever if negative, and hands them out
	wake()                         // ends a poll early; any goroutine
	write(id ID, c *conn, p []byte) int
	interest(id ID, c *conn)                      // c.paused has changed
	closeWrite(id ID, c *conn)                    // after the bytes that write took
	detach(id ID, c *conn) (net.Conn, error)      // the socket is the caller's now
	adopt(nc net.Conn, unread []byte) (ID, error) // after success nc is the loop's
	release(id ID, c *conn, orderly bool)         // ends the socket; orderly: after the bytes that write took
	stopAccepting()
	close() // after all connections; returns when everything started has ended
}

// death is the end of a connection that the handler has not been told yet.
type death struct {
	id  ID
	why error
}

// Stats counts what a loop has done. They only ever grow, but for Open.
type Stats struct {
	Open        int    // connections now
	Accepted    uint64 // connections
	AcceptFails uint64 // times accepting was put off for want of descriptors or memory
	Turns       uint64 // iterations
	Reads       uint64 // that gave bytes
	ReadBytes   uint64
	Writes      uint64 // calls that reached the socket
	WriteBytes  uint64
	ShortWrites uint64 // that took less than they were given
	Panics      uint64 // in Received
}

// Listen opens cfg.Loops loops that accept on one address, and returns the
// address with the port that was given if cfg asked for port 0. Connections are
// accepted once Run is called. A loop that is never run must be closed by
// running it with a context that has ended.
func Listen(cfg Config) ([]*Loop, net.Addr, error) {
	cfg.setDefaults()
	if cfg.Portable || cfg.TLS != nil {
		return listenPortable(cfg)
	}
	return listenNative(cfg)
}

func newLoop(cfg Config) *Loop {
	now := cfg.Clock()
	l := &Loop{cfg: cfg, start: now, now: now}
	l.posts = mailbox.NewBounded[func()](cfg.MaxPosted, l.Wake)
	return l
}

// Run serves until ctx ends, then closes every connection and returns nil once
// everything it started has ended; or earlier with the error that made going on
// impossible.
func (l *Loop) Run(ctx context.Context, h Handler) (err error) {
	l.handler = h
	l.waker.start(l.back.wake)
	defer context.AfterFunc(ctx, l.Wake)()
	l.back.start()

	for busy := false; ctx.Err() == nil; {
		if err = l.back.poll(l.patience(busy)); err != nil {
			err = fmt.Errorf("poll connections: %w", err)
			break
		}
		l.waker.rise()
		more := l.runPosted()
		l.wheel.advance(l)
		busy = h.Turn() || more
		l.reportGone()
		l.stats.Turns++
		if busy {
			runtime.Gosched() // others may have work for the next turn
		}
	}

	l.back.stopAccepting()
	l.waker.stop()
	l.posts.Close()
	l.conns.each(func(id ID, c *conn) { l.kill(id, c, ErrStopped) })
	l.reportGone()
	l.back.close()
	return err
}

// patience returns how long the next poll may wait: 0 if there is work left, negative
// (for ever) if there is no deadline.
func (l *Loop) patience(busy bool) time.Duration {
	if busy || !l.waker.sleep() {
		return 0
	}
	return l.wheel.next(l.cfg.Clock().Sub(l.start))
}

// runPosted runs the first of the posted functions and reports whether more may wait.
func (l *Loop) runPosted() (more bool) {
	fresh := len(l.posted) == 0
	if fresh && l.posts.Empty() {
		return false
	}
	if fresh {
		l.batch = l.posts.Take(l.batch)
		l.posted = l.batch
	}
	now := l.posted[:min(len(l.posted), postsPerTurn)]
	l.posted = l.posted[len(now):]
	for _, f := range now {
		f()
	}
	return !fresh || len(l.posted) > 0
}

// receive passes p to the handler and returns the bytes that it leaves unused. A panic
// in the handler costs this peer its connection, and no other.
func (l *Loop) receive(id ID, c *conn, p []byte) (rest []byte) {
	l.reading, l.unread = id, p
	defer func() {
		l.reading, l.unread = 0, nil
		if r := recover(); r != nil {
			l.stats.Panics++
			l.cfg.Log.Error("handler panicked", "panic", r, "stack", string(debug.Stack()))
			l.kill(id, c, fmt.Errorf("handler panicked: %v", r))
		}
	}()
	rest = p[l.handler.Received(id, p):]
	if len(rest) >= l.cfg.MaxPending && !c.paused {
		l.kill(id, c, ErrPending)
	}
	return rest
}

// kill ends a connection for the handler. The end of the turn reports it as gone and frees
// it. It does nothing to a connection that has ended already.
func (l *Loop) kill(id ID, c *conn, why error) {
	if c.open {
		c.open = false
		l.ended = append(l.ended, death{id, why})
	}
}

// reportGone tells the handler which connections have ended, and frees their slots.
func (l *Loop) reportGone() {
	for i := 0; i < len(l.ended); i++ { // Gone may close others
		d := l.ended[i]
		c := l.conns.at(d.id.Slot())
		l.wheel.remove(&l.conns, d.id.Slot())
		if d.why != ErrDetached {
			l.back.release(d.id, c, d.why == ErrClosed)
		}
		l.handler.Gone(d.id, d.why)
		l.conns.free(d.id.Slot())
		l.stats.Open--
	}
	clear(l.ended)
	l.ended = l.ended[:0]
}

// Post has f run on the loop soon, after everything posted before by the same
// goroutine; safe from any goroutine. It returns false, and f will not run, if
// the loop has ended or cfg.MaxPosted functions are waiting already.
func (l *Loop) Post(f func()) bool { return l.posts.Offer(f, 1) }

// Wake has the loop begin another iteration soon: it calls the handler's Turn, which looks
// into mailboxes of its own. It is safe from any goroutine.
func (l *Loop) Wake() { l.waker.wake() }

// Write takes as much of p as the socket takes now and returns how much that
// was; p is not kept. After a short write the handler's Writable follows, or
// Gone if the connection is broken.
func (l *Loop) Write(id ID, p []byte) (n int) {
	c := l.conns.get(id)
	if c == nil || len(p) == 0 {
		return 0
	}
	return l.back.write(id, c, p)
}

// SetDeadline has Due called once when the given time has passed, up to 200 ms
// late. Each call replaces the deadline that the connection had. Deadlines do not
// move when the system's clock is set.
func (l *Loop) SetDeadline(id ID, after time.Duration) {
	if l.conns.get(id) != nil {
		l.wheel.set(&l.conns, id.Slot(), l.Elapsed()+after)
	}
}

// Pause stops reading, so that the peer is held back by TCP's own flow control.
func (l *Loop) Pause(id ID) {
	if c := l.conns.get(id); c != nil && !c.paused {
		c.paused = true
		l.back.interest(id, c)
	}
}

// Resume reads again, beginning with the bytes that Received left unused before Pause.
func (l *Loop) Resume(id ID) {
	if c := l.conns.get(id); c != nil && c.paused {
		c.paused = false
		l.back.interest(id, c)
	}
}

// CloseWrite tells the peer that nothing more will come, and goes on reading.
// It is the polite way to end a connection whose peer may still be sending:
// closing at once would reset it and could take away what was written last.
func (l *Loop) CloseWrite(id ID) {
	if c := l.conns.get(id); c != nil {
		l.back.closeWrite(id, c)
	}
}

// Close ends a connection. A peer that reads still receives the bytes that Write took,
// unless bytes of the peer are unread: then TCP resets, see CloseWrite. Of the handler's
// methods only Gone is called after this, soon.
func (l *Loop) Close(id ID) {
	if c := l.conns.get(id); c != nil {
		l.kill(id, c, ErrClosed)
	}
}

// Detach takes a connection off the loop and returns it as a net.Conn that reads
// the bytes of the present call of Received first. It may only be called from
// Received, whose result then does not matter, and before anything was written;
// Gone follows with ErrDetached. After an error, such as a lack of descriptors, the
// connection is as it was.
func (l *Loop) Detach(id ID) (net.Conn, error) {
	c := l.conns.get(id)
	if c == nil || id != l.reading {
		return nil, fmt.Errorf("detach connection: not called from its Received")
	}
	nc, err := l.back.detach(id, c)
	if err != nil {
		return nil, fmt.Errorf("detach connection: %w", err)
	}
	l.kill(id, c, ErrDetached)
	return &unreadConn{Conn: nc, unread: append([]byte(nil), l.unread...)}, nil
}

// Adopt takes back a connection that Detach of this loop has returned, with bytes
// that were read from it and have not been used. Opened is not called for it;
// Received follows in a later turn, with those bytes first. It may only be called
// on the loop's goroutine. After an error nc is still the caller's.
func (l *Loop) Adopt(nc net.Conn, unread []byte) (ID, error) {
	if u, ok := nc.(*unreadConn); ok {
		nc, unread = u.Conn, append(unread, u.unread...)
	}
	id, err := l.back.adopt(nc, unread)
	if err != nil {
		return 0, fmt.Errorf("adopt connection: %w", err)
	}
	l.stats.Open++
	return id, nil
}

// Now returns the time at which this iteration began. It costs nothing. Its wall
// reading may jump: measure durations with Elapsed.
func (l *Loop) Now() time.Time { return l.now }

// Elapsed returns how long after the loop was made this iteration began. It never
// goes back, and does not move when the system's clock is set.
func (l *Loop) Elapsed() time.Duration { return l.now.Sub(l.start) }

// Stats returns the counters so far.
func (l *Loop) Stats() Stats { return l.stats }

// StopAccepting closes the listener; connections stay. (On the portable backend
// loops share one listener: it closes for all of them.)
func (l *Loop) StopAccepting() { l.back.stopAccepting() }
