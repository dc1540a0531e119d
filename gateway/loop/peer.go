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

	// The reader goroutine owns buf and have while it reads: from the receive on next until it
	// has posted the result of the read. At other times the loop owns them.
	buf  []byte
	have int           // number of bytes in buf that the handler has not used
	next chan struct{} // the loop sends here to lend buf to the reader, and closes it to end the reader

	// Owned by the loop.
	lent  bool  // the reader owns buf
	fresh bool  // buf has bytes that the handler has not seen
	err   error // error of the last read

	mu      sync.Mutex // guards the fields below
	out     []byte     // bytes to write
	spare   []byte     // the other half of a double buffer
	held    int        // bytes in out, and bytes that the writer goroutine is writing
	writing bool       // the writer goroutine runs
	owed    bool       // a write accepted only some of its bytes, so the loop must call Writable
	broken  bool       // writing has failed
	ending  ending     // how to end the connection after all bytes are written
}

// ending says how to end a connection. A later constant overrides an earlier one.
type ending int

const (
	endNot ending = iota
	endWrite
	endClose // wait up to lingerTime until the bytes are written, then close
	endNow
)

const readSize = 4 << 10 // size of a new connection's read buffer, in bytes

func newPeer(b *portable, nc net.Conn) *peer {
	return &peer{b: b, nc: nc, buf: make([]byte, readSize), next: make(chan struct{}, 1)}
}

// readOn lends the buffer to the reader goroutine. It first makes sure that the buffer has free
// space.
func (p *peer) readOn() {
	switch {
	case p.have == len(p.buf):
		bigger := make([]byte, 2*len(p.buf))
		copy(bigger, p.buf)
		p.buf = bigger
	case p.have == 0 && len(p.buf) > readSize: // a large message has passed: do not keep its buffer for an idle connection
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
		case <-p.b.ctx.Done():
			if p.id == 0 { // the loop ended before it took over this connection
				p.b.turnAway(p.nc, addrPortOf(p.nc.RemoteAddr()).Addr())
			}
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

// hold adds n to the bytes counted as held. The memory budget counts each byte twice, because
// there are two buffers. The caller holds mu.
func (p *peer) hold(n int) {
	p.held += n
	p.b.l.cfg.Memory.Add(limit.Queues, 2*n)
}

// idle reports whether all bytes have been written.
func (p *peer) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.writing
}

// end makes the writer goroutine end the connection. With endNow it does so at once, otherwise
// after the bytes that write has accepted.
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
		p.b.wg.Go(p.writeLoop) // closing a TLS connection writes to it, and the loop must not block
	}
}

// writeLoop writes until there are no more bytes. Then it ends the connection if end was called.
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
		CloseWrite(p.nc)
	case endClose, endNow:
		p.nc.Close()
	}
}
