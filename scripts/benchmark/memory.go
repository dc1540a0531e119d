//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"roomcast/gateway/wire/wstest"
)

// The load of the case memory.
const (
	fullRooms    = 40 // rooms with fullMessages messages of fullSize bytes, which is 5 MB in each room
	fullMessages = 84
	fullSize     = 60_000
	stuckMembers = 64 // members that join all full rooms with an early since and read nothing
	backReaders  = 8  // members that read history backward as fast as --rate allows
	probes       = 4  // members whose acks are timed
	memoryFlag   = 256 << 20
)

// memoryCase measures how much memory a gateway needs for clients that request much and read
// little, and how much they delay other clients. The gateway has its default limits.
func memoryCase(b *bench) error {
	rest, attack := 5*time.Second, 20*time.Second
	if b.quick {
		rest, attack = 2*time.Second, 8*time.Second
	}
	var rows table
	rows.add("system", "at rest (MB)", "attacked by", "at most (MB)", "more (MB)", "of --memory + 64 MB", "others: p50 at rest (ms)", "attacked (ms)", "times", "pages read backward", "readers closed as slow", "the server's core busy (%)")
	for _, form := range []struct {
		name  string
		start func() (*system, *process, error)
	}{
		{"gateway, all in one", func() (*system, *process, error) {
			s, err := b.newEmbedded("--rate", "20", "--burst", "40")
			if err != nil {
				return nil, nil, err
			}
			return s, s.procs[0], nil
		}},
		{"gateway alone", func() (*system, *process, error) {
			s, err := b.newThin(1)
			if err != nil {
				return nil, nil, err
			}
			return s, s.procs[len(s.procs)-1], nil
		}},
	} {
		if b.only != "" && !strings.Contains(form.name, b.only) {
			continue
		}
		s, _, err := form.start()
		if err != nil {
			return err
		}
		if err := fillRooms(s.addr); err != nil {
			return fmt.Errorf("fill rooms: %w", err)
		}
		s.stop()
		for _, by := range []struct {
			name        string
			stuck, back int
		}{{"nobody reads", stuckMembers, 0}, {"backward", 0, backReaders}, {"both", stuckMembers, backReaders}} {
			s, p, err := form.start() // a new process, so that no memory of an earlier load remains
			if err != nil {
				return err
			}
			m, err := s.attack(p, by.stuck, by.back, rest, attack)
			s.stop()
			if err != nil {
				return fmt.Errorf("%s: %w", form.name, err)
			}
			more := m.most - m.rest
			rows.add(form.name, mb(m.rest), by.name, mb(m.most), mb(more), fmt.Sprintf("%.0f %%", 100*float64(more)/float64(memoryFlag+64<<20)),
				fmt.Sprintf("%.2f", millis(m.quiet)), fmt.Sprintf("%.2f", millis(m.busy)), fmt.Sprintf("%.1f", float64(m.busy)/float64(m.quiet)), fmt.Sprint(m.pages), fmt.Sprint(m.closed), fmt.Sprintf("%.0f", m.core))
		}
	}
	rows.print()
	printWorst()
	return nil
}

func mb(n int64) string { return fmt.Sprint(n >> 20) }

// stop ends the system's processes, beginning with the one that was started last.
func (s *system) stop() {
	for i := len(s.procs) - 1; i >= 0; i-- {
		s.procs[i].stop()
	}
}

// attacked is the result of attack: the effect of one load on a process.
type attacked struct {
	rest, most  int64         // resident memory in bytes, at rest and at most
	quiet, busy time.Duration // median time to an ack, at rest and under load
	pages       int64         // pages of history that were read
	closed      int64         // sessions that the gateway closed as slow although they read
	core        float64       // how busy the server's core was, in percent
}

// attack measures p at rest, and then under load. The load is a number of members (stuck) that do
// not read, and a number (back) that read history backward.
func (s *system) attack(p *process, stuck, back int, rest, during time.Duration) (m attacked, err error) {
	var group sync.WaitGroup
	var faults errorList
	quit := make(chan struct{})
	var pages, closed atomic.Int64
	timed := &delays{}
	run := func(f func() error) {
		group.Go(func() {
			if err := f(); err != nil {
				faults.add(err)
			}
		})
	}
	for i := range probes {
		run(func() error { return probe(s.addr, i, quit, timed) })
	}
	time.Sleep(time.Second)
	timed.take()
	time.Sleep(rest)
	m.quiet, m.rest = timed.take(), p.rss()
	m.most = m.rest
	for i := range stuck {
		run(func() error { return readNothing(s.addr, i, quit) })
	}
	for i := range back {
		run(func() error {
			for {
				err := readBackward(s.addr, i, quit, &pages)
				if !errors.Is(err, errClosed) {
					return err
				}
				closed.Add(1)
			}
		})
	}
	w, before := newWatch(), s.cpuTimes()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		m.most = max(m.most, p.rss())
	}
	w.end()
	for i, used := range s.cpuTimes() {
		share := 100 * float64(used-before[i]) / float64(during)
		note("%d that read nothing, %d that read backward: %s used %.0f %% of the server's core", stuck, back, s.procs[i].name, share)
		m.core += share
	}
	m.busy, m.pages, m.closed = timed.take(), pages.Load(), closed.Load()
	close(quit)
	group.Wait()
	if !p.alive() {
		faults.add(fmt.Errorf("%s has ended", p.name))
	}
	return m, faults.err()
}

func fullRoom(i int) string { return fmt.Sprintf("bench_full_%d", i) }

// fillRooms fills fullRooms rooms with messages, which it sends over the HTTP API.
func fillRooms(addr string) error {
	var group sync.WaitGroup
	var faults errorList
	jobs := make(chan int)
	text := []byte(strings.Repeat("x", fullSize))
	for range 8 {
		group.Go(func() {
			for i := range jobs {
				answer, err := http.Post("http://"+addr+"/api/rooms/"+fullRoom(i)+"/messages", "text/plain", bytes.NewReader(text))
				if err != nil {
					faults.add(err)
					continue
				}
				said, _ := io.ReadAll(answer.Body)
				answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					faults.add(fmt.Errorf("%s: %.200s", answer.Status, said))
				}
			}
		})
	}
	for i := range fullRooms * fullMessages {
		jobs <- i % fullRooms
	}
	close(jobs)
	group.Wait()
	return faults.err()
}

// session is a JSON session. It belongs to one goroutine.
type session struct {
	nc net.Conn
	r  *bufio.Reader
}

// openSession connects with a receive buffer of the given size. With a small buffer, the kernel
// keeps little unread data, and the rest stays in the gateway.
func openSession(addr, path string, buffer int) (*session, error) {
	d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer)
		})
	}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: roomcast.v1\r\n\r\n", path, addr)
	s := &session{nc: nc, r: bufio.NewReaderSize(nc, 64<<10)}
	nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, err := http.ReadResponse(s.r, nil)
	if err == nil && answer.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("handshake: %s", answer.Status)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) send(format string, args ...any) error {
	_, err := s.nc.Write(wstest.AppendMasked(nil, wstest.Fin|wstest.Text, fmt.Appendf(nil, format, args...)))
	return err
}

var errClosed = errors.New("closed by the gateway")

// next reads one frame.
func (s *session) next() ([]byte, error) {
	s.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	var head [10]byte
	if _, err := io.ReadFull(s.r, head[:2]); err != nil {
		return nil, err
	}
	size, more := uint64(head[1]), 0
	switch size {
	case 126:
		more = 2
	case 127:
		more = 8
	}
	if more > 0 {
		if _, err := io.ReadFull(s.r, head[2:2+more]); err != nil {
			return nil, err
		}
		if size = uint64(binary.BigEndian.Uint16(head[2:])); more == 8 {
			size = binary.BigEndian.Uint64(head[2:])
		}
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(s.r, payload); err != nil {
		return nil, err
	}
	if head[0]&15 == wstest.Close {
		return nil, fmt.Errorf("%w: %.100q", errClosed, payload)
	}
	return payload, nil
}

// answer reads until the answer to a command arrives.
func (s *session) answer() ([]byte, error) {
	for {
		b, err := s.next()
		if err != nil || bytes.HasPrefix(b, []byte(`{"id":`)) {
			return b, err
		}
	}
}

// readNothing joins all full rooms and reads nothing, until the gateway has closed the session as
// slow. Then it begins again. Each member joins with another seq, because the gateway would answer
// equal requests with one read of the log.
func readNothing(addr string, since int, quit <-chan struct{}) error {
	for {
		s, err := openSession(addr, "/ws", 4<<10)
		if err != nil {
			return err
		}
		for i := range fullRooms {
			if err = s.send(`{"id":%d,"join":{"room":"%s","since":%d}}`, i, fullRoom(i), since%(fullMessages/2)); err != nil {
				break
			}
		}
		select {
		case <-quit:
			s.nc.Close()
			return nil
		case <-time.After(11 * time.Second):
			s.nc.Close()
		}
	}
}

// readBackward requests 20 pages of a full room a second. Each page ends at another seq, so that
// the gateway must read each from the log.
func readBackward(addr string, i int, quit <-chan struct{}, pages *atomic.Int64) error {
	s, err := openSession(addr, "/room/"+fullRoom(i)+"/", 1<<20)
	if err != nil {
		return err
	}
	defer s.nc.Close()
	sent, read := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			b, err := s.answer()
			switch {
			case err != nil:
				read <- err
				return
			case bytes.Contains(b[:min(len(b), 100)], []byte(`"ok"`)):
				pages.Add(1)
			}
		}
	}()
	go func() {
		defer close(sent)
		for n := 0; ; n++ {
			select {
			case <-quit:
				return
			case <-time.After(time.Second / 20):
			}
			if s.send(`{"id":%d,"history":{"limit":256,"before":%d}}`, n, fullMessages-(n*7+i)%(fullMessages/2)) != nil {
				return
			}
		}
	}()
	select {
	case <-quit:
		s.nc.Close()
		<-sent
		<-read
		return nil
	case err := <-read:
		s.nc.Close()
		<-sent
		return fmt.Errorf("read backward: %w", err)
	}
}

// delays contains the measured delays of all probes. It is safe for concurrent use.
type delays struct {
	mu sync.Mutex
	h  histogram
}

func (d *delays) add(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.h.add(took)
}

// take returns the median of the delays since the last call of take.
func (d *delays) take() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	p50 := d.h.quantile(0.5)
	d.h = histogram{}
	return p50
}

// probe sends ten messages a second to a room of its own and measures the time to each ack.
func probe(addr string, i int, quit <-chan struct{}, timed *delays) error {
	s, err := openSession(addr, fmt.Sprintf("/room/bench_probe_%d/", i), 64<<10)
	if err != nil {
		return err
	}
	defer s.nc.Close()
	for n := 0; ; n++ {
		select {
		case <-quit:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
		at := time.Now()
		if err := s.send(`{"id":%d,"say":{"text":"%d"}}`, n, n); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		b, err := s.answer()
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		if !bytes.Contains(b, []byte(`"ok"`)) {
			return fmt.Errorf("probe: %s", b)
		}
		timed.add(time.Since(at))
	}
}

// errorList collects errors from several goroutines and keeps only the first. It is safe for
// concurrent use.
type errorList struct {
	mu    sync.Mutex
	first error
}

func (l *errorList) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

func (l *errorList) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}
