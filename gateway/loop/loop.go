// Package loop runs event loops. A loop owns a listener, the connections that it has accepted,
// and the deadlines of those connections. It reports what happens on a connection to one
// [Handler]. Only the loop's goroutine uses the loop's state, so a connection needs no lock, no
// goroutine, no timer and no buffer of its own.
//
// There are two backends for the same [Loop]. The epoll backend runs on Linux. The portable
// backend runs on all systems, and is the only one with TLS. It uses one or two goroutines for
// each connection. The backends differ in cost, but a Handler sees no difference.
//
// # Reading order
//
// loop.go has the contract of a loop, and its iteration in [Loop.Run]. slab.go has the state of a
// connection, and epoll_linux.go reads and writes its bytes. wheel.go has the deadlines. waker.go
// wakes a loop from other goroutines.
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

// ID names one connection of one loop. The low 32 bits are the connection's slot, and the high 32
// bits are the slot's generation. A loop never gives the same ID to two connections. So a method
// that is called with the ID of a closed connection does nothing. The zero ID names no
// connection.
type ID uint64

// Slot returns the connection's index in the loop's slab. A loop reuses the slots of closed
// connections, so slots stay small numbers. A Handler can use the slot as an index into a slice
// of its own.
func (id ID) Slot() uint32 { return uint32(id) }

// Handler serves the connections of a loop. The loop's goroutine makes all calls, one at a time.
// A method of a Handler must not block. It may call the methods of the loop.
type Handler interface {
	// Opened is the first call for a connection that the loop has accepted.
	Opened(id ID, peer netip.AddrPort)

	// Received passes in p all bytes that the loop has received and the handler has not used. It
	// returns how many bytes the handler has used, counted from the beginning of p. The next call
	// passes the other bytes again, followed by newer ones. For example, if p is "abc" and
	// Received returns 2, the next p begins with "c".
	//
	// During the call, the handler may change every byte of p, also those that it leaves unused.
	// After the call, it must not use p. While a connection is paused, the loop does not call
	// Received. A panic in Received closes only this connection.
	Received(id ID, p []byte) (used int)

	// Writable reports that the socket accepts bytes again. The loop calls it after a Write that
	// accepted only some of its bytes.
	Writable(id ID)

	// Due reports that the deadline set by SetDeadline has passed.
	Due(id ID)

	// Gone is the last call for a connection. The loop calls Gone exactly once for each Opened
	// and each Adopt, whichever side has closed the connection. It calls Gone only between other
	// calls of the handler, even if a method of the handler closes the connection.
	//
	// The error is [ErrClosed] after Close and [ErrDetached] after Detach. It is io.EOF if the
	// peer has closed the connection and the loop has received all its bytes. In all other cases
	// it is the error that broke the connection.
	Gone(id ID, why error)

	// Turn is the last call of an iteration of the loop. In it, the handler writes the bytes
	// that it has collected during the iteration. If busy is true, the loop begins the next
	// iteration at once, without waiting for an event.
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
	batch   []func() // functions taken from posts
	posted  []func() // the functions of batch that have not run yet
	handler Handler
	start   time.Time // when the loop was made; Elapsed counts from here
	now     time.Time // when this iteration began
	conns   slab
	wheel   wheel
	ended   []death // connections that have ended and whose Gone was not called yet
	reading ID      // the connection in whose Received the loop is now; 0 = in none
	unread  []byte  // the bytes passed to that call of Received
	stats   Stats
}

// backend is the part of a loop that works with sockets. The loop's goroutine calls all its
// methods except wake, which any goroutine may call. The parameter c is the open connection's
// entry in the slab.
type backend interface {
	start()                        // begins to accept
	poll(wait time.Duration) error // waits for events and serves them; without a limit if wait is negative
	wake()                         // ends a poll early; safe for concurrent use
	write(id ID, c *conn, p []byte) int
	interest(id ID, c *conn)                      // c.paused has changed
	closeWrite(id ID, c *conn)                    // ends this side of the connection after the bytes that write accepted
	detach(id ID, c *conn) (net.Conn, error)      // the caller owns the result
	adopt(nc net.Conn, unread []byte) (ID, error) // if it succeeds, the loop owns nc
	release(id ID, c *conn, orderly bool)         // closes the socket; if orderly, after the bytes that write accepted
	stopAccepting()
	close() // ends the backend's goroutines; called after release of every connection
}

// death records that a connection has ended, until the loop reports the end to the handler.
type death struct {
	id  ID
	why error
}

// Stats counts what a loop has done. Open can fall; the other counters only grow.
type Stats struct {
	Open        int    // connections open now
	Accepted    uint64 // connections accepted so far
	AcceptFails uint64 // how often the loop paused accepting because it ran out of descriptors or memory
	Turns       uint64 // iterations
	Reads       uint64 // read calls that returned bytes
	ReadBytes   uint64
	Writes      uint64 // write calls that the loop made to sockets
	WriteBytes  uint64
	ShortWrites uint64 // write calls that accepted only some of their bytes
	Panics      uint64 // panics in the handler's Received
}

// Listen opens cfg.Loops loops that accept connections on one address. It returns that address.
// If cfg has port 0, the returned address has the port that the system chose. A loop accepts
// nothing before its Run is called. The caller must call Run on every loop, because only Run
// closes the loop's listener. To close a loop that will never serve, call Run with a context
// that has already ended.
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

// Run serves connections until ctx ends or the backend fails. Then it closes all connections and
// waits for all goroutines that the loop has started. It returns the backend's failure, or nil.
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
			runtime.Gosched() // let other goroutines prepare work for the next iteration
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

// patience returns how long the next poll may wait for events. It returns 0 if there is work to
// do now, and a negative number if no deadline limits the wait.
func (l *Loop) patience(busy bool) time.Duration {
	if busy || !l.waker.sleep() {
		return 0
	}
	return l.wheel.next(l.cfg.Clock().Sub(l.start))
}

// runPosted runs up to postsPerTurn of the posted functions. It reports whether more may be
// waiting.
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

// receive passes p to the handler and returns the bytes that the handler has not used. A panic
// in the handler closes only this connection.
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

// kill marks a connection as ended. From then on, the loop's methods do nothing for its ID. At
// the end of this iteration, reportGone calls Gone and frees the slot. A second kill does
// nothing.
func (l *Loop) kill(id ID, c *conn, why error) {
	if c.open {
		c.open = false
		l.ended = append(l.ended, death{id, why})
	}
}

// reportGone tells the handler which connections have ended, and frees their slots.
func (l *Loop) reportGone() {
	for i := 0; i < len(l.ended); i++ { // the list grows if Gone closes other connections
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

// Post makes the loop call f soon. The loop calls functions posted by one goroutine in the order
// in which they were posted. Post returns false if the loop has ended, or if cfg.MaxPosted
// functions are waiting already. Then f is never called. Post is safe for concurrent use.
func (l *Loop) Post(f func()) bool { return l.posts.Offer(f, 1) }

// Wake makes the loop begin another iteration soon. The iteration calls the handler's Turn, in
// which a handler can look into its own mailboxes. Wake is safe for concurrent use.
func (l *Loop) Wake() { l.waker.wake() }

// Write writes as many bytes of p as the socket accepts now, and returns their number. It does
// not keep p. If it returns less than len(p), the loop later calls Writable, or Gone if the
// connection is broken.
func (l *Loop) Write(id ID, p []byte) (n int) {
	c := l.conns.get(id)
	if c == nil || len(p) == 0 {
		return 0
	}
	return l.back.write(id, c, p)
}

// SetDeadline makes the loop call Due once, after the given duration. The call may be up to 200
// ms late. A connection has one deadline, so each call replaces the deadline set before. A change
// of the system's clock does not move deadlines.
func (l *Loop) SetDeadline(id ID, after time.Duration) {
	if l.conns.get(id) != nil {
		l.wheel.set(&l.conns, id.Slot(), l.Elapsed()+after)
	}
}

// Pause stops reading from the connection. TCP's flow control then stops the peer from sending
// much more.
func (l *Loop) Pause(id ID) {
	if c := l.conns.get(id); c != nil && !c.paused {
		c.paused = true
		l.back.interest(id, c)
	}
}

// Resume continues reading after Pause. The first bytes are those that Received did not use
// before the pause.
func (l *Loop) Resume(id ID) {
	if c := l.conns.get(id); c != nil && c.paused {
		c.paused = false
		l.back.interest(id, c)
	}
}

// CloseWrite closes this side of the connection for writing, and continues to read. Use it
// instead of Close if the peer may still be sending. If a socket is closed before all received
// bytes are read, TCP resets the connection. Then the peer might not receive the last bytes that
// were written.
func (l *Loop) CloseWrite(id ID) {
	if c := l.conns.get(id); c != nil {
		l.back.closeWrite(id, c)
	}
}

// Close ends a connection. If the loop has read all bytes that the peer has sent, the peer still
// receives all bytes that Write has accepted. If not, TCP resets the connection, and the peer may
// lose some of them; see CloseWrite. After Close, the loop makes only one more call for this
// connection: Gone, at the end of the iteration.
func (l *Loop) Close(id ID) {
	if c := l.conns.get(id); c != nil {
		l.kill(id, c, ErrClosed)
	}
}

// Detach removes a connection from the loop and returns it as a net.Conn. Reads from the net.Conn
// return first the bytes passed to the current call of Received. Only Received may call Detach,
// and only for a connection to which nothing was written. The loop then ignores the result of
// Received, and calls Gone with ErrDetached. If Detach returns an error, the connection stays in
// the loop. This happens, for example, if the process has no free descriptor.
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

// Adopt gives a connection back to the loop from which Detach took it. The parameter unread
// contains the bytes that the caller has read from nc but not used. The loop does not call
// Opened. In a later iteration, it passes the unread bytes to Received. Only the loop's goroutine
// may call Adopt. If Adopt returns an error, the caller still owns nc.
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

// Now returns the time at which this iteration began, without asking the system. The system's
// clock may jump, so use Elapsed to measure durations.
func (l *Loop) Now() time.Time { return l.now }

// Elapsed returns the time from the creation of the loop to the beginning of this iteration. It
// never goes back, because a change of the system's clock does not affect it.
func (l *Loop) Elapsed() time.Duration { return l.now.Sub(l.start) }

// Stats returns the counters so far.
func (l *Loop) Stats() Stats { return l.stats }

// StopAccepting closes the listener. Open connections stay open. The loops of the portable
// backend share one listener, so one call stops accepting for all of them.
func (l *Loop) StopAccepting() { l.back.stopAccepting() }
