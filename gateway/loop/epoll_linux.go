package loop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	eventsPerTurn  = 256      // events that one iteration takes before it runs posted functions, deadlines and Turn
	acceptsPerTurn = 64       // connections accepted in one iteration; more would delay the open connections
	scratchSize    = 64 << 10 // the most bytes that one read returns
	smallPartial   = 16 << 10 // partials of at most this many bytes are copied in front of the next read

	// In epoll's events, the loop's own descriptors have these numbers instead of a slot.
	wakeSlot   = -1
	acceptSlot = -2
)

// epoll is the backend for Linux. It is level-triggered, and reads from a connection once for
// each event. A peer that sends a lot therefore gets no larger share of the loop than others. An
// event carries the slot and its generation. So the loop recognises a late event of a closed
// connection, even if another connection has the slot now.
//
// The loop never blocks in epoll_wait. If there are no events, Go's poller watches the epoll
// descriptor, and the loop's goroutine sleeps like any other. A blocking epoll_wait would occupy
// a processor of the Go runtime for up to 10 ms. Goroutines that the loop has just woken would
// have to wait for that processor.
type epoll struct {
	l        *Loop
	fd       int
	file     *os.File // fd, for Go's poller
	raw      syscall.RawConn
	wakefd   int
	listener int       // -1 once closed
	held     time.Time // when to accept again after a pause; zero = there is no pause
	scarce   bool      // the pause has been logged, and no connection was accepted since then

	events   [eventsPerTurn]unix.EpollEvent
	found    int        // how many entries of events the last epoll_wait filled
	failed   unix.Errno // error of the last epoll_wait
	wakes    time.Time  // the read deadline set on file; zero = none
	look     func(uintptr) bool
	peer     unix.RawSockaddrAny // address of the connection that is being accepted
	scratch  []byte              // the bytes of the read that Received is handling
	partials partials
	resumed  []ID // connections whose unused bytes must be passed to Received again
}

func newEpoll(l *Loop, listener int) (*epoll, error) {
	e := &epoll{l: l, fd: -1, wakefd: -1, listener: listener, scratch: make([]byte, scratchSize)}
	var err error
	if e.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if e.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(e.fd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err = unix.SetNonblock(e.fd, true); err != nil { // Go's poller requires it
		unix.Close(e.fd)
		unix.Close(e.wakefd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	e.file = os.NewFile(uintptr(e.fd), "epoll")
	if e.raw, err = e.file.SyscallConn(); err != nil {
		e.close()
		return nil, fmt.Errorf("watch epoll: %w", err)
	}
	e.look = func(uintptr) bool {
		e.found, e.failed = rawEpollWait(e.fd, e.events[:])
		return e.found > 0 || e.failed != 0
	}
	// Edge-triggered: epoll reports each wake-up once, and the loop need not read it.
	wake := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeSlot}
	if err = unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, e.wakefd, &wake); err != nil {
		e.close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return e, nil
}

func (e *epoll) wake() {
	one := [8]byte{1}
	rawWrite(e.wakefd, one[:])
}

func (e *epoll) poll(wait time.Duration) error {
	// First pass on the unused bytes of resumed connections, and then read. In the other order,
	// the handler could learn the end of a connection before it gets these bytes. The handler may
	// now have something to write, so do not wait for events.
	if e.redeliver() || len(e.resumed) > 0 {
		wait = 0
	}
	if err := e.wait(e.acceptAgain(wait)); err != nil {
		return err
	}
	e.l.now = e.l.cfg.Clock()
	for i := range e.found {
		switch ev := &e.events[i]; ev.Fd {
		case wakeSlot:
		case acceptSlot:
			e.accept()
		default:
			e.ready(ID(uint32(ev.Fd))|ID(uint32(ev.Pad))<<32, ev.Events)
		}
	}
	return nil
}

// wait fetches the events that have happened. If there are none, it waits for the given time, or
// without a limit if wait is negative.
func (e *epoll) wait(wait time.Duration) (err error) {
	e.found, e.failed = 0, 0
	if wait == 0 {
		e.look(0)
	} else {
		// If an earlier deadline is already set, it stays. It does no harm: the loop wakes early,
		// finds nothing to do and waits again.
		if due := time.Now().Add(wait); wait > 0 && (e.wakes.IsZero() || due.Before(e.wakes)) {
			e.wakes = due
			err = e.file.SetReadDeadline(due)
		}
		if err == nil {
			err = e.raw.Read(e.look)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			e.wakes = time.Time{}
			err = e.file.SetReadDeadline(e.wakes)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("watch epoll: %w", err)
	case e.failed != 0 && e.failed != unix.EINTR:
		return os.NewSyscallError("epoll_wait", e.failed)
	}
	e.found = max(e.found, 0)
	return nil
}

// ready handles an event of one connection. It calls Writable first, and then reads once. A read
// returns all bytes of the peer before it returns the end of the connection or an error.
func (e *epoll) ready(id ID, events uint32) {
	c := e.l.conns.get(id)
	if c == nil {
		return
	}
	if events&unix.EPOLLOUT != 0 && c.short {
		c.short = false
		e.l.handler.Writable(id)
		if c.open && c.armed && !c.short {
			e.await(id, c)
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 || !c.open {
		return
	}
	if !c.paused {
		e.read(id, c)
	} else if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.l.kill(id, c, os.NewSyscallError("read", unix.ECONNRESET)) // otherwise epoll would report this event again in every iteration
	}
}

func (e *epoll) read(id ID, c *conn) {
	into, have := e.scratch, 0
	if t := e.partials.of(c); t != nil && len(t.b) <= smallPartial {
		have = copy(into, t.b)
	} else if t != nil {
		t = e.partials.grow(c)
		into, have = t.b[:cap(t.b)], len(t.b)
	}
	n, errno := rawRead(int(c.fd), into[have:])
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0:
		e.l.kill(id, c, os.NewSyscallError("read", errno))
		return
	case n == 0:
		e.l.kill(id, c, io.EOF)
		return
	}
	e.l.stats.Reads++
	e.l.stats.ReadBytes += uint64(n)
	e.settle(c, e.l.receive(id, c, into[:have+n]))
}

// settle keeps rest, the bytes that the handler has not used, unless the connection has ended.
func (e *epoll) settle(c *conn, rest []byte) {
	if c.open {
		e.partials.keep(c, rest)
	}
}

// redeliver passes the unused bytes of resumed connections to the handler. It reports whether
// there were any such bytes.
func (e *epoll) redeliver() (some bool) {
	resumed := e.resumed
	e.resumed = nil
	for _, id := range resumed {
		if c := e.l.conns.get(id); c != nil && !c.paused && c.partial != 0 {
			some = true
			e.settle(c, e.l.receive(id, c, e.partials.of(c).b))
		}
	}
	if e.resumed == nil {
		e.resumed = resumed[:0]
	}
	return some
}

func (e *epoll) write(id ID, c *conn, p []byte) int {
	if c.short {
		return 0 // epoll reports when the socket is writable
	}
	n, errno := rawSend(int(c.fd), p)
	if errno != 0 {
		n = 0
		if errno != unix.EAGAIN && errno != unix.EINTR {
			e.l.kill(id, c, os.NewSyscallError("write", errno))
			return 0
		}
	}
	e.l.stats.Writes++
	e.l.stats.WriteBytes += uint64(n)
	if n < len(p) {
		e.l.stats.ShortWrites++
		c.short = true
		if !c.armed {
			e.await(id, c)
		}
	}
	return n
}

func (e *epoll) interest(id ID, c *conn) {
	if !c.paused && c.partial != 0 {
		e.resumed = append(e.resumed, id)
	}
	e.await(id, c)
}

// await tells epoll which events of c to report.
func (e *epoll) await(id ID, c *conn) {
	ev := unix.EpollEvent{Fd: int32(id.Slot()), Pad: int32(id >> 32)}
	if !c.paused {
		ev.Events |= unix.EPOLLIN
	}
	if c.armed = c.short; c.armed {
		ev.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_MOD, int(c.fd), &ev); err != nil {
		e.l.kill(id, c, os.NewSyscallError("epoll_ctl", err))
	}
}

func (e *epoll) closeWrite(id ID, c *conn) {
	if err := unix.Shutdown(int(c.fd), unix.SHUT_WR); err != nil {
		e.l.kill(id, c, os.NewSyscallError("shutdown", err))
	}
}

func (e *epoll) detach(id ID, c *conn) (net.Conn, error) {
	if c.short {
		return nil, unix.EBUSY
	}
	// First come the steps that can fail. Until all of them have succeeded, c.fd stays open and
	// epoll watches it. If one fails, release closes c.fd later. If none fails, detach closes it
	// below.
	fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close() // FileConn makes another duplicate of the descriptor
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_DEL, int(c.fd), nil); err != nil {
		nc.Close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	unix.Close(int(c.fd))
	e.partials.drop(c)
	return nc, nil
}

func (e *epoll) release(_ ID, c *conn, _ bool) {
	e.partials.drop(c)
	unix.Close(int(c.fd)) // epoll forgets it, because there is no duplicate
}

func (e *epoll) close() {
	e.file.Close()
	unix.Close(e.wakefd)
}
