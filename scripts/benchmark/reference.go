//go:build linux

package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"roomcast/gateway/wire/wstest"
)

// serveReference is the reference: a chat server that only copies frames. Each URL path is a room.
// The reference sends each message to all members of the room, in the same bytes as Roomcast and
// with one write for each frame. It is one process and stores nothing. A member that does not read
// fast enough loses frames.
func serveReference(addr string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	unix.SetsockoptInt(listener, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // accepted sockets inherit it
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	if err := unix.Listen(listener, 65535); err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create epoll: %w", err)
	}
	watch := func(fd int) {
		unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}
	watch(listener)

	var (
		rooms  = map[string]*[]int{}
		room   = make([]*[]int, 1<<16) // by descriptor
		buf    = make([]byte, 1<<16)
		frame  []byte
		events = make([]unix.EpollEvent, 1024)
	)
	for {
		n, err := unix.EpollWait(epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if fd == listener {
				for range 64 {
					c, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
					if err != nil {
						break
					}
					watch(c)
				}
				continue
			}
			n, errno := rawRead(fd, buf)
			if n <= 0 && errno != unix.EAGAIN {
				leave(room[fd], fd)
				room[fd] = nil
				unix.Close(fd)
				continue
			}
			b := buf[:max(n, 0)]
			if room[fd] == nil {
				room[fd] = welcome(fd, b, rooms)
				continue
			}
			for len(b) > 0 {
				frame = relay(frame[:0], &b)
				for _, to := range *room[fd] {
					rawWrite(to, frame)
				}
			}
		}
	}
}

// welcome answers a handshake, and returns the members of the requested room, including the new
// one.
func welcome(fd int, request []byte, rooms map[string]*[]int) *[]int {
	_, rest, _ := bytes.Cut(request, []byte("GET "))
	path, rest, _ := bytes.Cut(rest, []byte(" "))
	_, rest, _ = bytes.Cut(rest, []byte("Sec-WebSocket-Key: "))
	key, _, _ := bytes.Cut(rest, []byte("\r\n"))
	sum := sha1.Sum(append(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	answer := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	answer = base64.StdEncoding.AppendEncode(answer, sum[:])
	rawWrite(fd, append(answer, "\r\n\r\n"...))
	members := rooms[string(path)]
	if members == nil {
		members = new([]int)
		rooms[string(path)] = members
	}
	*members = append(*members, fd)
	return members
}

func leave(members *[]int, fd int) {
	if members == nil {
		return
	}
	for i, m := range *members {
		if m == fd {
			*members = append((*members)[:i], (*members)[i+1:]...)
			return
		}
	}
}

// relay removes the first masked frame from b, and appends to frame the unmasked frame for the
// members. The frame in b must be complete, because the clients of the benchmark send only complete
// frames.
func relay(frame []byte, b *[]byte) []byte {
	in := *b
	size, head := int(in[1]&127), 2
	if size == 126 {
		size, head = int(in[2])<<8|int(in[3]), 4
	}
	key, body := in[head:head+4], in[head+4:head+4+size]
	*b = in[head+4+size:]
	frame = wstest.AppendHeader(frame, wstest.Fin|wstest.Text, len(stamp)+size)
	frame = append(frame, stamp...)
	for i, c := range body {
		frame = append(frame, c^key[i&3])
	}
	return frame
}
