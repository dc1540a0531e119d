package loop

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// If a socket has more unsent bytes than notSent, the kernel reports it as not writable
// (TCP_NOTSENT_LOWAT).
const notSent = 16 << 10

// listenNative opens cfg.Loops epoll loops. Each has a listener of its own, and the kernel
// distributes new connections among them.
func listenNative(cfg Config) ([]*Loop, net.Addr, error) {
	// The listeners use SO_REUSEPORT. With this option, a second gateway on the same address
	// would get half of the connections, and nobody would notice. So first check that the
	// address is free.
	probe, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, nil, err
	}
	addr := probe.Addr()
	probe.Close()

	var loops []*Loop
	for range cfg.Loops {
		l := newLoop(cfg)
		e, err := listenEpoll(l, addr.String())
		if err != nil {
			for _, l := range loops {
				l.back.stopAccepting()
				l.back.close()
			}
			return nil, nil, err
		}
		l.back = e
		loops = append(loops, l)
	}
	return loops, addr, nil
}

func listenEpoll(l *Loop, address string) (*epoll, error) {
	fd, err := listener(address, l.cfg)
	if err != nil {
		return nil, err
	}
	e, err := newEpoll(l, fd)
	if err != nil {
		unix.Close(fd)
	}
	return e, err
}

// listener returns a listening socket. Package net resolves the address and chooses the address
// families. Accepted sockets inherit the socket options set here, which saves a system call for
// each connection.
func listener(address string, cfg Config) (int, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		ctlErr := raw.Control(func(fd uintptr) {
			for _, o := range []struct{ level, name, value int }{
				{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
				{unix.SOL_SOCKET, unix.SO_SNDBUF, cfg.SendBuffer},
				{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
				{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent},
			} {
				if err = unix.SetsockoptInt(int(fd), o.level, o.name, o.value); err != nil {
					err = fmt.Errorf("set socket option %d: %w", o.name, err)
					return
				}
			}
		})
		if err == nil {
			err = ctlErr
		}
		return err
	}}
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return -1, err
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File() // a duplicate of the descriptor, which Go's poller does not watch
	if err != nil {
		return -1, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate listener: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("fcntl", err)
	}
	return fd, nil
}
