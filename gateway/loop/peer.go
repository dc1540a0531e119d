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

	// The reader owns these from a receive on next to its post, otherwise the loop does.
	buf  []byte
	have int           // bytes of buf the handler has not used
	next chan struct{} // lends buf to the reader; closed to end the reader

	// Owned by the loop.
	lent  bool  // buf is the reader's
	fresh bool  // there are bytes the handler has not seen
	err   error // of the last read

	mu      sync.Mutex // guards what follows
	out     []byte     // to be written
	spare   []byte     // the other half of a double buffer
	held    int        // bytes in out and under way
	writing bool       // a writer is at work
	owed    bool       // a write was short: Writable must follow
	broken  bool       // writing has failed
	ending  ending     // how to end once all is written
}

// ending is how a connection ends; a later one takes precedence.
type ending int

const (
	endNot ending = iota
	endWrite
	endClose // within lingerTime
	endNow
)

const readSize = 4 << 10 // bytes of a reader's buffer to begin with

func newPeer(b *portable, nc net.Conn) *peer {
	return &peer{b: b, nc: nc, buf: make([]byte, readSize), next: make(chan struct{}, 1)}
}

// readOn lends the buffer to the reader, with room in it.
func (p *peer) readOn() {
	switch {
	case p.have == len(p.buf):
		bigger := make([]byte, 2*len(p.buf))
		copy(bigger, p.buf)
		p.buf = bigger
	case p.have == 0 && len(p.buf) > readSize: // most connections are idle: a large message must not cost one for ever
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
			return // released, and closed by release
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

// hold counts n more bytes as held, twice: there are two buffers. mu is held.
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

// end ends the connection, after the written bytes if it may linger.
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
		p.b.wg.Go(p.writeLoop) // not here: to close TLS is to write
	}
}

// writeLoop writes until nothing is left, then ends the connection if that has
// been asked for.
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
	p.out, p.spare, p.writing = nil, nil, false // nothing is kept of an idle connection
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
