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
	eventsPerTurn  = 256      // handled before posted functions, deadlines and Turn get their turn
	acceptsPerTurn = 64       // so that a storm of new connections does not starve the old
	scratchSize    = 64 << 10 // bytes read at once
	smallTail      = 16 << 10 // bytes up to which a tail is copied in front of what is read next

	// What epoll events carry instead of a slot.
	wakeSlot   = -1
	acceptSlot = -2
)

// epoll is the backend for Linux: level-triggered, one read an event, so that
// whoever sends more waits behind the others. An event names slot and generation,
// so one that was meant for a closed connection is told from its successor's.
//
// The loop never blocks in epoll_wait: it looks, and if there is nothing it has
// Go's own poller watch the epoll descriptor and is parked like any goroutine. A
// blocking call would keep the processor it ran on, with whatever the loop had
// just handed to other goroutines there, until the runtime takes it away after up
// to 10 ms, and again and again if the loop wakes up more often than that.
type epoll struct {
	l        *Loop
	fd       int
	file     *os.File // the same, as Go's poller knows it
	raw      syscall.RawConn
	wakefd   int
	listener int       // -1 once closed
	held     time.Time // when to accept again after descriptors ran out; zero: accepting
	scarce   bool      // nothing has been accepted since they ran out

	events  [eventsPerTurn]unix.EpollEvent
	found   int        // of them, by the last look
	failed  unix.Errno // the last look
	wakes   time.Time  // when the poller ends a wait at the latest; zero: not set
	look    func(uintptr) bool
	peer    unix.RawSockaddrAny // of the connection being accepted
	scratch []byte              // what is read lies here during Received
	tails   tails
	resumed []ID // to be given their tails
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
	if err = unix.SetNonblock(e.fd, true); err != nil { // which is what Go's poller asks for
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
	// Edge-triggered: every wake-up counts once and nothing has to be read.
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
	// Before anything is read: an end must not overtake it. The turn that follows must
	// not wait, for the handler may have something to write now.
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

// wait looks for events, and waits for some if there are none: not at all if wait
// is 0, for ever if it is negative.
func (e *epoll) wait(wait time.Duration) (err error) {
	e.found, e.failed = 0, 0
	if wait == 0 {
		e.look(0)
	} else {
		// An earlier time that is set already does no harm: the loop looks and waits again.
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

// ready serves one connection's event: first what it waits to write, then one
// read. An end or an error of the peer is found by reading, after the data
// before it.
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
		e.l.kill(id, c, os.NewSyscallError("read", unix.ECONNRESET)) // epoll reports it again and again
	}
}

func (e *epoll) read(id ID, c *conn) {
	into, have := e.scratch, 0
	if t := e.tails.of(c); t != nil && len(t.b) <= smallTail {
		have = copy(into, t.b)
	} else if t != nil {
		t = e.tails.grow(c)
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

// settle keeps what the handler has left, unless the connection is dying.
func (e *epoll) settle(c *conn, rest []byte) {
	if c.open {
		e.tails.keep(c, rest)
	}
}

// redeliver gives resumed connections what they had left unused, and reports whether
// there was something.
func (e *epoll) redeliver() (some bool) {
	resumed := e.resumed
	e.resumed = nil
	for _, id := range resumed {
		if c := e.l.conns.get(id); c != nil && !c.paused && c.tail != 0 {
			some = true
			e.settle(c, e.l.receive(id, c, e.tails.of(c).b))
		}
	}
	if e.resumed == nil {
		e.resumed = resumed[:0]
	}
	return some
}

func (e *epoll) write(id ID, c *conn, p []byte) int {
	if c.short {
		return 0 // epoll will tell
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
	if !c.paused && c.tail != 0 {
		e.resumed = append(e.resumed, id)
	}
	e.await(id, c)
}

// await tells epoll what to report of c.
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
	// Only what can fail comes first: until the caller has a descriptor of its own,
	// c.fd stays open and watched, and exactly one close of it follows, here or in
	// release.
	fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close() // net makes a duplicate once more
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_DEL, int(c.fd), nil); err != nil {
		nc.Close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	unix.Close(int(c.fd))
	e.tails.drop(c)
	return nc, nil
}

func (e *epoll) release(_ ID, c *conn, _ bool) {
	e.tails.drop(c)
	unix.Close(int(c.fd)) // also takes it out of epoll: there is no duplicate
}

func (e *epoll) close() {
	e.file.Close()
	unix.Close(e.wakefd)
}
