// Package loop runs event loops: each owns a listener, the connections it
// accepted and their deadlines, and tells one [Handler] what happens to them.
// Whatever a loop owns is touched by its own goroutine alone, so there is no
// lock, no goroutine, no timer and no buffer per connection.
//
// Two backends stand behind the same [Loop]: epoll on Linux, and a portable one
// with a goroutine per connection for other systems and for TLS. They differ in
// cost, not in what a Handler sees.
package loop

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// ID names one connection of one loop: its slot in the low 32 bits, the slot's
// generation in the high 32. It is never used again, so a late call with the ID
// of a connection that is gone does nothing. The zero ID names no connection.
type ID uint64

// Slot returns the connection's place in the loop's slab: small, dense, and
// used again once the connection is gone. Handlers index their own slabs by it.
func (id ID) Slot() uint32 { return uint32(id) }

// Handler is told what happens on a loop. All calls come from the loop's
// goroutine, one at a time; none may block. A handler may call the loop's
// methods from any of them.
type Handler interface {
	// Opened says that a connection has been accepted.
	Opened(id ID, peer netip.AddrPort)

	// Received gives all bytes that have not been used yet and returns how many
	// of them, from the front, are now used; the rest comes back in front of the
	// next bytes. p may be changed in place, also where it is not used yet, and
	// is valid only during the call. It is never called for a paused connection.
	Received(id ID, p []byte) (used int)

	// Writable says that a connection takes bytes again whose Write took less
	// than it was given.
	Writable(id ID)

	// Due says that the deadline set with SetDeadline has passed; it is unset.
	Due(id ID)

	// Gone is the last call for a connection, exactly once for every Opened, no
	// matter who closed it; never from inside another call of the handler. why is
	// [ErrClosed] after Close, [ErrDetached] after Detach, io.EOF if the
	// peer has closed, otherwise what went wrong.
	Gone(id ID, why error)

	// Turn ends an iteration: the time to write what has been gathered. busy
	// asks for the next iteration at once instead of waiting for an event.
	Turn() (busy bool)
}

// A Loop accepts and serves connections from one goroutine, the one that called
// Run. Only Post may be called from elsewhere.
type Loop struct{}

// Listen opens cfg.Loops loops that accept on one address, and returns the
// address with the port that was given if cfg asked for port 0. Connections are
// accepted once Run is called. A loop that is never run must be closed by
// running it with a context that has ended.
func Listen(cfg Config) ([]*Loop, net.Addr, error) { panic("not yet") }

// Run serves until ctx ends, then closes every connection and returns nil once
// everything it started has ended; or earlier with the error that made going on
// impossible.
func (l *Loop) Run(ctx context.Context, h Handler) error { panic("not yet") }

// Post has f run on the loop soon, after everything posted before by the same
// goroutine; safe from any goroutine. It returns false, and f will not run, if
// the loop has ended or cfg.MaxPosted functions are waiting already.
func (l *Loop) Post(f func()) bool { panic("not yet") }

// Write takes as much of p as the socket takes now and returns how much that
// was; p is not kept. After a short write the handler's Writable follows, or
// Gone if the connection is broken.
func (l *Loop) Write(id ID, p []byte) (n int) { panic("not yet") }

// SetDeadline has Due called once t has passed, up to 200 ms late; the zero
// time unsets it. There is one deadline a connection, the last one set.
func (l *Loop) SetDeadline(id ID, t time.Time) { panic("not yet") }

// Pause stops reading, so that the peer is held back by TCP's own flow control.
func (l *Loop) Pause(id ID) { panic("not yet") }

// Resume reads again, beginning with what Received left unused before Pause.
func (l *Loop) Resume(id ID) { panic("not yet") }

// CloseWrite tells the peer that nothing more will come, and goes on reading.
// It is the polite way to end a connection whose peer may still be sending:
// closing at once would reset it and could take away what was written last.
func (l *Loop) CloseWrite(id ID) { panic("not yet") }

// Close ends a connection: what Write took is still delivered if the peer is
// there to read it. Of the handler's methods only Gone is called for it after
// this, soon.
func (l *Loop) Close(id ID) { panic("not yet") }

// Detach takes a connection off the loop and returns it as a net.Conn that reads
// the bytes of the present call of Received first. It may only be called from
// Received, whose result then does not matter; Gone follows with ErrDetached.
func (l *Loop) Detach(id ID) (net.Conn, error) { panic("not yet") }

// Now returns the time at which this iteration began. It costs nothing.
func (l *Loop) Now() time.Time { panic("not yet") }

// StopAccepting closes the listener; connections stay.
func (l *Loop) StopAccepting() { panic("not yet") }
