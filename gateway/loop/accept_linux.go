package loop

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func (e *epoll) start() { e.listen() }

// listen makes epoll watch the listener, at the start and after a pause.
func (e *epoll) listen() {
	e.held = time.Time{}
	if e.listener < 0 {
		return
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: acceptSlot}
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, e.listener, &ev); err != nil {
		e.holdAccepting(err)
	}
}

// holdAccepting stops watching the listener for acceptPause. The listener stays readable while
// connections wait in the backlog. If epoll still watched it, the loop would never sleep.
func (e *epoll) holdAccepting(why error) {
	e.l.stats.AcceptFails++
	if !e.scarce {
		e.scarce = true
		e.l.cfg.Log.Warn("cannot accept connections; trying again", "error", why, "connections", e.l.stats.Open)
	}
	unix.EpollCtl(e.fd, unix.EPOLL_CTL_DEL, e.listener, nil)
	e.held = time.Now().Add(acceptPause)
}

// acceptAgain watches the listener again if the pause is over. It returns how long the loop may
// wait for events. This is the time wait, or less if the pause ends earlier.
func (e *epoll) acceptAgain(wait time.Duration) time.Duration {
	if e.held.IsZero() {
		return wait
	}
	left := time.Until(e.held)
	if left <= 0 {
		e.listen()
		return wait
	}
	if wait < 0 {
		return left
	}
	return min(wait, left)
}

// accept accepts up to acceptsPerTurn connections. It reports whether more may be waiting.
func (e *epoll) accept() (more bool) {
	for range acceptsPerTurn {
		if e.listener < 0 { // closed by the handler
			return false
		}
		fd, errno := rawAccept(e.listener, &e.peer)
		switch errno {
		case 0:
			peer := addrPort(&e.peer)
			if refusal, ok := e.l.cfg.Gate.Enter(peer.Addr(), e.l.now); !ok {
				e.refuse(fd, refusal)
			} else if !e.open(fd, peer) {
				e.l.cfg.Gate.Leave(peer.Addr())
				return false
			}
		case unix.EAGAIN:
			return false
		case unix.EINTR, unix.ECONNABORTED:
		default: // EMFILE, ENFILE, ENOBUFS, ENOMEM: out of descriptors or memory
			e.holdAccepting(os.NewSyscallError("accept4", errno))
			return false
		}
	}
	return true
}

// refuse sends the refusal to a peer that the gate does not accept, and closes the connection.
// Before that, it reads the bytes that the peer has sent. If it closed the socket with unread
// bytes, TCP would reset the connection, and the peer might not receive the refusal. No call in
// this function blocks.
func (e *epoll) refuse(fd int, refusal []byte) {
	var request [2048]byte
	if len(refusal) > 0 {
		rawSend(fd, refusal)
	}
	rawRead(fd, request[:])
	unix.Close(fd)
}

// add gives a slot to a socket and makes epoll watch it. If add returns an error, the caller
// still owns the descriptor.
func (e *epoll) add(fd int) (ID, *conn, error) {
	id, c := e.l.conns.alloc()
	c.fd = int32(fd)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id.Slot()), Pad: int32(id >> 32)}
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		e.l.conns.free(id.Slot())
		return 0, nil, os.NewSyscallError("epoll_ctl", err)
	}
	return id, c, nil
}

// open begins to serve an accepted socket. It returns false if epoll cannot watch the socket.
func (e *epoll) open(fd int, peer netip.AddrPort) bool {
	id, _, err := e.add(fd)
	if err != nil {
		unix.Close(fd)
		e.holdAccepting(err)
		return false
	}
	e.scarce = false
	e.l.stats.Accepted++
	e.l.stats.Open++
	e.l.handler.Opened(id, peer)
	return true
}

// adopt takes over the connection nc. The loop uses a duplicate of nc's descriptor, and nc is
// closed.
func (e *epoll) adopt(nc net.Conn, unread []byte) (ID, error) {
	socket, ok := nc.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("a %T has no descriptor", nc)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	var failed error
	err = raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err = cmp.Or(err, failed); err != nil {
		return 0, os.NewSyscallError("fcntl", err)
	}
	id, c, err := e.add(fd)
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	nc.Close()
	e.partials.keep(c, unread)
	e.resumed = append(e.resumed, id)
	return id, nil
}

// stopAccepting first accepts the connections that wait in the backlog, because the kernel would
// reset them when the listener closes.
func (e *epoll) stopAccepting() {
	if e.listener < 0 {
		return
	}
	for e.l.handler != nil && e.accept() {
	}
	unix.Close(e.listener)
	e.listener, e.held = -1, time.Time{}
}

func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		a := asInet4(sa)
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), swap(a.Port))
	case unix.AF_INET6:
		a := asInet6(sa)
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), swap(a.Port))
	}
	return netip.AddrPort{}
}
