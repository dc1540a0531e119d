//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"roomcast/gateway/wire/wstest"
)

// state is the state of a member's connection.
type state uint8

const (
	closed state = iota
	connecting
	upgrading
	opened
)

// member is one client.
type member struct {
	fd    int
	state state
	room  int32
	since time.Duration // when the last attempt to connect began, since the start of the swarm
	have  uint64        // seq of the last event; only in JSON sessions
	tail  []byte        // the received part of an incomplete frame
}

// swarm is a set of clients on one epoll loop. One goroutine owns it. When all clients are
// connected, it does one read for each epoll event and allocates no memory.
type swarm struct {
	addr      netip.AddrPort
	elsewhere map[int]netip.AddrPort // by id: the other address to which a member connects
	json      bool                   // use JSON sessions (subprotocol roomcast.v1)
	receive   int                    // SO_RCVBUF of later connections; 0 = the default of the system

	// path returns the path and query of a member's URL. The swarm calls it for each attempt to
	// connect.
	path func(id int) string

	// events reports whether a member reads Server-Sent Events instead of WebSocket frames. For
	// such a member, the swarm calls hears with the data of each event. nil = no member reads
	// Server-Sent Events.
	events func(id int) bool

	offer  func(id int) string          // returns a member's resume string; "" = none; may be nil
	opens  func(id int)                 // called after the handshake; may be nil
	hears  func(id int, payload []byte) // called for a text frame; payload is valid only during the call
	pongs  func(id int)                 // called for a pong; may be nil
	closes func(id int, code int)       // called when the connection has ended; code 1006 = without a close frame; may be nil; may call connect
	ticks  func()                       // called at the interval that every has set; may be nil

	members []member
	waiting []int // ids that wait to connect, because as many handshakes as window are in progress
	halfway int   // number of members that are connecting or upgrading
	open    int   // number of opened members
	refused int   // number of handshakes that were refused or not answered
	said    string
	codes   map[int]int // number of closes by code

	now   time.Duration // time since the start of the swarm, read once in each pass of the loop
	start time.Time
	epoll int
	timer int
	buf   []byte
	ready []unix.EpollEvent
	out   []byte
}

// window is the number of handshakes that a swarm has in progress at once.
const window = 512

func newSwarm(addr string) (*swarm, error) {
	s := &swarm{codes: map[int]int{}, start: time.Now(), buf: make([]byte, 1<<20), ready: make([]unix.EpollEvent, 1024)}
	var err error
	if s.addr, err = netip.ParseAddrPort(addr); err != nil {
		return nil, err
	}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	if s.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("create timer: %w", err)
	}
	return s, unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
}

// every makes the swarm call ticks at an interval; 0 stops the calls.
func (s *swarm) every(interval time.Duration) {
	t := unix.NsecToTimespec(int64(interval))
	unix.TimerfdSettime(s.timer, 0, &unix.ItimerSpec{Interval: t, Value: t}, nil)
}

// add adds n members; roomOf returns the room of each. It only queues their connections, which run
// then opens.
func (s *swarm) add(n int, roomOf func(i int) int) {
	for i := range n {
		s.members = append(s.members, member{fd: -1, room: int32(roomOf(i))})
		s.connect(len(s.members) - 1)
	}
}

// connect connects a member that is not connected. If too many handshakes are in progress, it
// queues the member.
func (s *swarm) connect(id int) {
	if s.halfway >= window {
		s.waiting = append(s.waiting, id)
		return
	}
	m := &s.members[id]
	m.since = time.Since(s.start)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.refuse(id, err.Error())
		return
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if s.receive > 0 {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, s.receive)
	}
	// Use another local address after every 4,000 connections. With only one address, the kernel's
	// search for a free port would be the most expensive part of a connection.
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	n := id / 4000
	from := &unix.SockaddrInet4{Addr: [4]byte{127, 100 + byte(n>>8), byte(n), 1}}
	if err = unix.Bind(fd, from); err == nil {
		at, ok := s.elsewhere[id]
		if !ok {
			at = s.addr
		}
		to := &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
		err = unix.Connect(fd, to)
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		s.refuse(id, err.Error())
		return
	}
	m.fd, m.state, m.tail = fd, connecting, m.tail[:0]
	s.halfway++
	s.watch(unix.EPOLL_CTL_ADD, id, unix.EPOLLOUT)
}

func (s *swarm) watch(op, id int, events uint32) {
	unix.EpollCtl(s.epoll, op, s.members[id].fd, &unix.EpollEvent{Events: events, Fd: int32(id)})
}

func (s *swarm) refuse(id int, why string) {
	s.refused++
	s.said = why
}

// run serves the clients until done returns true. If limit passes before, run returns an error. If
// done is nil, run serves the clients for the duration limit.
func (s *swarm) run(limit time.Duration, done func() bool) error {
	end := time.Since(s.start) + limit
	for {
		s.now = time.Since(s.start)
		if done != nil && done() {
			return nil
		}
		if s.now >= end {
			if done == nil {
				return nil
			}
			return fmt.Errorf("not done after %v: %d of %d members open, closed by code %v, %d refused %s",
				limit, s.open, len(s.members), s.codes, s.refused, s.said)
		}
		n, err := unix.EpollWait(s.epoll, s.ready, min(100, int((end-s.now)/time.Millisecond)+1))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
		s.now = time.Since(s.start)
		for _, e := range s.ready[:max(n, 0)] {
			s.handle(int(e.Fd), e.Events)
		}
		for s.halfway < window && len(s.waiting) > 0 {
			id := s.waiting[0]
			s.waiting = s.waiting[1:]
			s.connect(id)
		}
	}
}

func (s *swarm) handle(id int, events uint32) {
	if id < 0 {
		var n [8]byte
		unix.Read(s.timer, n[:])
		if s.ticks != nil {
			s.ticks()
		}
		return
	}
	m := &s.members[id]
	switch {
	case m.state == connecting && events&unix.EPOLLOUT != 0 && events&unix.EPOLLERR == 0:
		s.upgrade(id)
	case m.state != closed:
		s.read(id)
	}
}

func (s *swarm) upgrade(id int) {
	s.out = append(s.out[:0], "GET "...)
	s.out = append(s.out, s.path(id)...)
	s.out = append(s.out, " HTTP/1.1\r\nHost: "...)
	s.out = s.addr.AppendTo(s.out)
	if s.reads(id) {
		s.out = append(s.out, "\r\n\r\n"...)
		s.begin(id)
		return
	}
	s.out = append(s.out, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"...)
	if s.json {
		s.out = append(s.out, "Sec-WebSocket-Protocol: roomcast.v1"...)
		if s.offer != nil && s.offer(id) != "" {
			s.out = append(append(s.out, ", resume."...), s.offer(id)...)
		}
		s.out = append(s.out, "\r\n"...)
	}
	s.out = append(s.out, "\r\n"...)
	s.begin(id)
}

// begin sends the handshake of a member.
func (s *swarm) begin(id int) {
	s.members[id].state = upgrading
	s.watch(unix.EPOLL_CTL_MOD, id, unix.EPOLLIN)
	s.write(id, s.out)
}

func (s *swarm) reads(id int) bool { return s.events != nil && s.events(id) }

// read reads once from the connection. If there is more data, it stays in the kernel until run has
// read from the other connections.
func (s *swarm) read(id int) {
	m := &s.members[id]
	kept := copy(s.buf, m.tail)
	n, errno := rawRead(m.fd, s.buf[kept:])
	if errno == unix.EAGAIN {
		return
	}
	if n <= 0 {
		s.drop(id, 1006)
		return
	}
	b := s.buf[:kept+n]
	if m.state == upgrading {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			m.tail = append(m.tail[:0], b...)
			return
		}
		accepted := bytes.HasPrefix(b, []byte("HTTP/1.1 101")) && bytes.Contains(b, []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
		if s.reads(id) {
			accepted = bytes.HasPrefix(b, []byte("HTTP/1.1 200"))
		}
		if !accepted {
			s.said = string(b[:min(len(b), 300)])
			s.drop(id, 1006)
			return
		}
		m.state = opened
		s.halfway--
		s.open++
		b = b[end+4:]
		if s.opens != nil {
			s.opens(id)
		}
	}
	for m.state == opened && s.reads(id) {
		event, rest, found := bytes.Cut(b, []byte("\n\n"))
		if !found {
			break
		}
		if _, data, found := bytes.Cut(event, []byte("data: ")); found {
			s.hears(id, data)
		}
		b = rest
	}
	for m.state == opened && !s.reads(id) {
		op, payload, used := wstest.Next(b)
		if used == 0 {
			break
		}
		b = b[used:]
		switch op {
		case wstest.Ping:
			s.out = wstest.AppendMasked(s.out[:0], wstest.Fin|wstest.Pong, payload)
			s.write(id, s.out)
		case wstest.Pong:
			if s.pongs != nil {
				s.pongs(id)
			}
		case wstest.Close:
			code := 1005
			if len(payload) >= 2 {
				code = int(binary.BigEndian.Uint16(payload))
			}
			s.drop(id, code)
			return
		case wstest.Text:
			s.hears(id, payload)
		}
	}
	if m.state == opened {
		m.tail = append(m.tail[:0], b...)
	}
}

// write sends all of b. If the socket does not accept all of b at once, write drops the member: b
// is short, so the server must have stopped reading.
func (s *swarm) write(id int, b []byte) {
	if n, _ := rawWrite(s.members[id].fd, b); n != len(b) {
		s.drop(id, 1006)
	}
}

// drop closes the member's connection and calls closes.
func (s *swarm) drop(id int, code int) {
	m := &s.members[id]
	switch m.state {
	case closed:
		return
	case opened:
		s.open--
		s.codes[code]++
	default:
		s.halfway--
		s.refused++
	}
	m.state = closed
	// Close with a TCP reset, which leaves no connection in the state TIME_WAIT. Such connections
	// would use up the ports.
	unix.SetsockoptLinger(m.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(m.fd)
	if s.closes != nil {
		s.closes(id, code)
	}
}

// close drops all members and closes the descriptors of the swarm.
func (s *swarm) close() {
	s.closes = nil
	for id := range s.members {
		s.drop(id, 1006)
	}
	unix.Close(s.timer)
	unix.Close(s.epoll)
}

// rawRead and rawWrite do not tell the Go scheduler about the system call, which saves time. So
// they must not block: the sockets must be non-blocking.
func rawRead(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), e
}

func rawWrite(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), e
}
