package loop

import (
	"net"
	"sync"
	"time"

	"roomcast/gateway/limit"
)

// peer is one connection of the portable backend.
type peer struct {
	b  *portable
	nc net.Conn
	id ID // set before the first read

	// The reader owns these from a receive on next until it posts the result; otherwise the
	// loop owns them.
	buf  []byte
	have int           // bytes of buf that the handler has not used
	next chan struct{} // lends buf to the reader; closed to end the reader

	// Owned by the loop.
	lent  bool  // the reader owns buf
	fresh bool  // buf has bytes that the handler has not seen
	err   error // of the last read

	mu      sync.Mutex // guards the fields below
	out     []byte     // bytes to write
	spare   []byte     // the other half of a double buffer
	held    int        // bytes in out, and those that the writer is writing
	writing bool       // the writer's goroutine runs
	owed    bool       // a write was short: Writable must follow
	broken  bool       // writing has failed
	ending  ending     // what to do when all bytes are written
}

// ending is how a connection ends. A later constant overrides an earlier one.
type ending int

const (
	endNot ending = iota
	endWrite
	endClose // within lingerTime
	endNow
)

const readSize = 4 << 10 // bytes of a new reader's buffer

func newPeer(b *portable, nc net.Conn) *peer {
	return &peer{b: b, nc: nc, buf: make([]byte, readSize), next: make(chan struct{}, 1)}
}

// readOn lends the buffer to the reader, with space in it.
func (p *peer) readOn() {
	switch {
	case p.have == len(p.buf):
		bigger := make([]byte, 2*len(p.buf))
		copy(bigger, p.buf)
		p.buf = bigger
	case p.have == 0 && len(p.buf) > readSize: // an idle connection does not keep the buffer of a large message
		p.buf = make([]byte, readSize)
	}
	p.lent = true
	p.next <- struct{}{}
}

func (p *peer) readLoop() {
	for {
		select {
		case _, ok := <-p.next:
			if !ok {
				return
			}
		case <-p.b.ctx.Done(): // the loop ended before it knew of this connection
			p.nc.Close()
			return
		}
		n, err := p.nc.Read(p.buf[p.have:])
		if !p.b.post(func() { p.b.got(p, n, err) }) {
			return // the loop has ended, and release closes the connection
		}
	}
}

func (p *peer) write(data []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken || p.ending != endNot {
		return 0
	}
	n := min(len(data), max(0, p.b.l.cfg.SendBuffer-p.held))
	p.out = append(p.out, data[:n]...)
	p.hold(n)
	p.owed = p.owed || n < len(data)
	if n > 0 && !p.writing {
		p.writing = true
		p.b.wg.Go(p.writeLoop)
	}
	return n
}

// hold counts n more bytes as held. Each counts twice in the memory, because there are two
// buffers. The caller holds mu.
func (p *peer) hold(n int) {
	p.held += n
	p.b.l.cfg.Memory.Add(limit.Queues, 2*n)
}

// idle reports whether everything has been written.
func (p *peer) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.writing
}

// end makes the writer end the connection: with endNow at once, otherwise after the bytes of
// write.
func (p *peer) end(how ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if how <= p.ending {
		return
	}
	p.ending = how
	switch how {
	case endClose:
		p.nc.SetWriteDeadline(time.Now().Add(lingerTime))
	case endNow:
		p.nc.SetDeadline(time.Now())
	}
	if !p.writing {
		p.writing = true
		p.b.wg.Go(p.writeLoop) // closing TLS writes, and the loop must not block
	}
}

// writeLoop writes until no bytes are left. Then it ends the connection if end was called.
func (p *peer) writeLoop() {
	for {
		p.mu.Lock()
		if len(p.out) == 0 || p.ending == endNow {
			break
		}
		chunk := p.out
		p.out, p.spare = p.spare[:0], nil
		p.mu.Unlock()

		_, err := p.nc.Write(chunk)

		p.mu.Lock()
		p.spare = chunk
		p.hold(-len(chunk))
		owed := p.owed
		p.owed = false
		if err != nil {
			p.broken, p.out = true, nil
			p.hold(-p.held)
		}
		p.mu.Unlock()
		if err != nil {
			p.b.post(func() { p.b.failed(p, err) })
		} else if owed {
			p.b.post(func() { p.b.writable(p) })
		}
	}
	p.out, p.spare, p.writing = nil, nil, false // an idle connection has no buffers
	p.hold(-p.held)
	how := p.ending
	p.mu.Unlock()
	switch how {
	case endWrite:
		if c, ok := p.nc.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
	case endClose, endNow:
		p.nc.Close()
	}
}
