// Package loop runs event loops. A loop owns a listener, the connections that it has
// accepted, and their deadlines. It calls one [Handler] with their events. Only the loop's
// goroutine uses its state. So a connection needs no lock, no goroutine, no timer and no
// buffer of its own.
//
// Two backends implement the same [Loop]: epoll on Linux, and a portable one for other
// systems and for TLS, which has goroutines for each connection. They differ in cost; a
// Handler sees no difference.
//
// # Reading order
//
// This file has the contract of a loop, and its iteration in [Loop.Run]. slab.go has the
// state of a connection, and epoll_linux.go reads and writes its bytes. wheel.go has the
// deadlines. waker.go wakes a loop from other goroutines.
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

// ID names one connection of one loop: its slot in the low 32 bits, the slot's generation in
// the high 32. A loop never uses an ID again. So a late call for a closed connection does
// nothing. The zero ID names no connection.
type ID uint64

// Slot returns the connection's place in the loop's slab. Slots are small numbers without
// holes. Another connection gets the slot of a closed one. Handlers index their own slabs by
// it.
func (id ID) Slot() uint32 { return uint32(id) }

// Handler serves the connections of a loop. The loop's goroutine makes all calls, one at a
// time. A handler must not block, and may call the loop's methods from any of its own.
type Handler interface {
	// Opened is the first call for a connection that the loop has accepted.
	Opened(id ID, peer netip.AddrPort)

	// Received passes all bytes that the handler has not used yet. It returns how many of
	// them, from the front, it has used. The loop passes the rest again, before the next
	// bytes. The handler may change p in place, also the rest, and must not keep p. The loop
	// does not call Received for a paused connection. A panic in it closes only this
	// connection.
	Received(id ID, p []byte) (used int)

	// Writable says that a connection takes bytes again, after a Write that took fewer than
	// it was given.
	Writable(id ID)

	// Due says that the time given to SetDeadline has passed.
	Due(id ID)

	// Gone is the last call for a connection. The loop makes it exactly once for each Opened
	// and each Adopt, whichever side has closed the connection, and never from inside another
	// call of the handler. Why is [ErrClosed] after Close and [ErrDetached] after Detach. It is
	// io.EOF if the peer has closed and the loop has received all its bytes. Otherwise it is
	// the failure.
	Gone(id ID, why error)

	// Turn ends an iteration. The handler writes the bytes that it has gathered. Busy asks
	// for the next iteration at once, without waiting for an event.
	Turn() (busy bool)
}

// A Loop accepts and serves connections on the goroutine that called Run. Only Post and Wake
// are safe for concurrent use.
type Loop struct {
	// Static after construction.
	cfg  Config
	back backend

	posts *mailbox.Box[func()]
	waker waker

	// Owned by the loop's goroutine.
	batch   []func() // taken from posts
	posted  []func() // the functions of batch that have not run yet
	handler Handler
	start   time.Time // of the loop's clock
	now     time.Time // when this iteration began
	conns   slab
	wheel   wheel
	ended   []death // connections closed in this turn, before their Gone
	reading ID      // the connection whose Received is running; 0 = none
	unread  []byte  // the bytes of that call
	stats   Stats
}

// backend is the half of a loop that knows sockets. The loop's goroutine calls all methods
// but wake. C is the slab's entry of an open connection.
type backend interface {
	start()                        // begins to accept
	poll(wait time.Duration) error // waits for events and serves them; a negative wait has no end
	wake()                         // ends a poll early; safe for concurrent use
	write(id ID, c *conn, p []byte) int
	interest(id ID, c *conn)                      // c.paused has changed
	closeWrite(id ID, c *conn)                    // after the bytes that write took
	detach(id ID, c *conn) (net.Conn, error)      // the caller owns the result
	adopt(nc net.Conn, unread []byte) (ID, error) // without an error the loop owns nc
	release(id ID, c *conn, orderly bool)         // closes the socket; orderly: after the bytes that write took
	stopAccepting()
	close() // ends the backend's goroutines, after all connections
}

// death is the end of a connection, before the loop reports it to the handler.
type death struct {
	id  ID
	why error
}

// Stats counts what a loop has done. All but Open only grow.
type Stats struct {
	Open        int    // connections now
	Accepted    uint64 // connections
	AcceptFails uint64 // pauses of accepting, because descriptors or memory ran out
	Turns       uint64 // iterations
	Reads       uint64 // that gave bytes
	ReadBytes   uint64
	Writes      uint64 // calls that reached the socket
	WriteBytes  uint64
	ShortWrites uint64 // writes that took fewer bytes than they were given
	Panics      uint64 // in Received
}

// Listen opens cfg.Loops loops that accept on one address. It returns the address, with the
// port that the system chose if cfg has port 0. A loop accepts after the call of Run. Every
// loop needs a Run, which closes its listener; the context may have ended before.
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

// Run serves until ctx ends, or until polling fails. Then it closes all connections, waits
// for everything that it has started, and returns nil or the failure.
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

// patience returns how long the next poll may wait: 0 if there is work left. A negative
// result means that no deadline ends the wait.
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

// receive passes p to the handler and returns the bytes that it leaves unused. A panic in
// the handler closes this connection only.
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

// kill makes the handler's later calls for a connection do nothing. The end of the turn calls
// Gone and frees the connection. A second kill does nothing.
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

// Post makes the loop run f soon, after all functions that the same goroutine has posted
// before. It is safe for concurrent use. It returns false, and the loop does not run f, if
// the loop has ended or cfg.MaxPosted functions wait already.
func (l *Loop) Post(f func()) bool { return l.posts.Offer(f, 1) }

// Wake makes the loop begin another iteration soon and call the handler's Turn, which looks
// into mailboxes of its own. It is safe for concurrent use.
func (l *Loop) Wake() { l.waker.wake() }

// Write writes as many bytes of p as the socket takes now and returns their number. It does
// not keep p. After a short write the loop calls Writable, or Gone if the connection is
// broken.
func (l *Loop) Write(id ID, p []byte) (n int) {
	c := l.conns.get(id)
	if c == nil || len(p) == 0 {
		return 0
	}
	return l.back.write(id, c, p)
}

// SetDeadline makes the loop call Due once when the given time has passed, up to 200 ms late.
// Each call replaces the connection's deadline. A change of the system's clock does not move
// deadlines.
func (l *Loop) SetDeadline(id ID, after time.Duration) {
	if l.conns.get(id) != nil {
		l.wheel.set(&l.conns, id.Slot(), l.Elapsed()+after)
	}
}

// Pause stops reading. The flow control of TCP then holds the peer back.
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

// CloseWrite tells the peer that nothing more will come, and continues to read. It is for a
// connection whose peer may still be sending. Close would reset such a connection, and the
// peer might not receive the last bytes.
func (l *Loop) CloseWrite(id ID) {
	if c := l.conns.get(id); c != nil {
		l.back.closeWrite(id, c)
	}
}

// Close ends a connection. A peer that reads still receives the bytes that Write took. It may
// not if it has sent bytes that the loop has not read: then TCP resets, see CloseWrite. Of the
// handler's methods, the loop calls only Gone after this, soon.
func (l *Loop) Close(id ID) {
	if c := l.conns.get(id); c != nil {
		l.kill(id, c, ErrClosed)
	}
}

// Detach removes a connection from the loop and returns it as a net.Conn. Its first reads
// return the bytes of the present call of Received. Only Received may call Detach, and only
// before anything was written; the result of Received then does not matter. Gone follows with
// ErrDetached. After an error, such as a lack of descriptors, the connection is as it was.
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

// Adopt takes back a connection that Detach of this loop has returned. Unread are bytes that
// the caller has read from it and not used. The loop does not call Opened for it. Received
// follows in a later turn, with those bytes first. Only the loop's goroutine may call Adopt.
// After an error the caller still owns nc.
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

// Now returns the time at which this iteration began. It costs nothing. The system's clock
// may jump, so measure durations with Elapsed.
func (l *Loop) Now() time.Time { return l.now }

// Elapsed returns the time from the loop's beginning to that of this iteration. It never
// goes back: a change of the system's clock does not affect it.
func (l *Loop) Elapsed() time.Duration { return l.now.Sub(l.start) }

// Stats returns the counters so far.
func (l *Loop) Stats() Stats { return l.stats }

// StopAccepting closes the listener; connections stay. The loops of the portable backend
// share a listener, so it closes for all of them.
func (l *Loop) StopAccepting() { l.back.stopAccepting() }
