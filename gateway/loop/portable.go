package loop

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"roomcast/gateway/limit"
)

const (
	handshakeTime = 5 * time.Second // limit for a TLS handshake
	lingerTime    = time.Second     // how long Close waits until the bytes that Write accepted are sent

	handshakeBytes = 32 << 10 // about the memory of one TLS handshake
	refuseTime     = 100 * time.Millisecond
)

// portable is the backend that uses package net. Each connection has a goroutine that reads.
// While there are bytes to write, the connection also has a goroutine that writes. Both
// goroutines post their results to the loop.
type portable struct {
	l          *Loop
	group      *listenerGroup
	intake     chan net.Conn // connections that an accept goroutine of the group has assigned to this loop
	wakes      chan struct{}
	timer      *time.Timer
	peers      []*peer // by slot; owned by the loop
	handshakes handshakes
	ctx        context.Context
	stop       context.CancelFunc
	wg         sync.WaitGroup // accept, take and the goroutines of all connections
}

// listenerGroup contains the loops that share one listener. Every loop accepts connections, and
// assigns them to the loops of the group in turn.
type listenerGroup struct {
	ln    net.Listener
	loops []*portable
	turn  atomic.Uint32
}

func listenPortable(cfg Config) ([]*Loop, net.Addr, error) {
	ln, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, nil, err
	}
	m := &listenerGroup{ln: ln}
	var loops []*Loop
	for range cfg.Loops {
		l := newLoop(cfg)
		ctx, stop := context.WithCancel(context.Background())
		b := &portable{
			l: l, group: m,
			intake: make(chan net.Conn),
			wakes:  make(chan struct{}, 1),
			timer:  time.NewTimer(time.Hour),
			ctx:    ctx, stop: stop,
		}
		l.back = b
		m.loops = append(m.loops, b)
		loops = append(loops, l)
	}
	return loops, ln.Addr(), nil
}

func (b *portable) start() {
	b.wg.Go(b.accept)
	b.wg.Go(b.take)
}

func (b *portable) poll(wait time.Duration) error {
	switch {
	case wait < 0:
		<-b.wakes
	case wait > 0:
		b.timer.Reset(wait)
		select {
		case <-b.wakes:
		case <-b.timer.C:
		}
	}
	b.l.now = b.l.cfg.Clock()
	return nil
}

func (b *portable) wake() {
	select {
	case b.wakes <- struct{}{}:
	default:
	}
}

// post is [Loop.Post] without a bound. A bound is not needed, because each connection has at most
// three functions waiting. post returns false after the end of the loop.
func (b *portable) post(f func()) bool { return b.l.posts.Put(f) }

func (b *portable) accept() {
	for scarce := false; ; {
		nc, err := b.group.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // descriptors ran out
			if !scarce {
				scarce = true
				b.l.cfg.Log.Warn("cannot accept connections; trying again", "error", err)
			}
			select {
			case <-time.After(acceptPause):
				continue
			case <-b.ctx.Done():
				return
			}
		}
		scarce = false
		peer := addrPortOf(nc.RemoteAddr()).Addr()
		if refusal, ok := b.l.cfg.Gate.Enter(peer, time.Now()); !ok {
			b.refuse(nc, refusal)
			continue
		}
		next := b.group.loops[b.group.turn.Add(1)%uint32(len(b.group.loops))]
		select {
		case next.intake <- nc:
		case <-next.ctx.Done():
			b.turnAway(nc, peer)
		case <-b.ctx.Done():
			b.turnAway(nc, peer)
			return
		}
	}
}

// refuse sends the refusal to a peer that the gate does not accept, and closes the connection.
// The send buffer of a new socket is empty, so the write does not block. With TLS, the peer gets
// no refusal, because it expects a TLS handshake and could not read the text.
func (b *portable) refuse(nc net.Conn, refusal []byte) {
	if b.l.cfg.TLS == nil && len(refusal) > 0 {
		nc.SetWriteDeadline(time.Now().Add(refuseTime))
		nc.Write(refusal)
	}
	nc.Close()
}

// turnAway closes a connection that the gate has accepted but the handler does not know yet.
func (b *portable) turnAway(nc net.Conn, peer netip.Addr) {
	nc.Close()
	b.l.cfg.Gate.Leave(peer)
}

// take serves the connections that the accept goroutines have assigned to this loop.
func (b *portable) take() {
	for {
		select {
		case nc := <-b.intake:
			b.wg.Go(func() { b.serve(nc) })
		case <-b.ctx.Done():
			return
		}
	}
}

// wantsTLS is the answer to a client that sends plain HTTP to a port with TLS.
const wantsTLS = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"this port speaks https and wss; the request was plain http\n"

// tellPlain sends wantsTLS and waits until the client closes the connection. If tellPlain closed
// the socket with unread bytes, TCP would reset the connection, and the client might not receive
// the answer.
func tellPlain(nc net.Conn) {
	nc.SetDeadline(time.Now().Add(lingerTime))
	io.WriteString(nc, wantsTLS)
	CloseWrite(nc)
	io.Copy(io.Discard, io.LimitReader(nc, 64<<10))
}

// isHTTP reports whether the first bytes of a connection are the name of an HTTP method.
func isHTTP(first []byte) bool {
	for _, c := range first[:3] {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// serve performs the TLS handshake, if there is one. Then it reads the connection until the
// connection ends.
func (b *portable) serve(nc net.Conn) {
	peer := addrPortOf(nc.RemoteAddr())
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(b.l.cfg.SendBuffer)
	}
	if b.l.cfg.TLS != nil {
		if !b.l.cfg.Memory.Take(limit.Handshakes, handshakeBytes) {
			if !b.handshakes.closeOldest() {
				b.turnAway(nc, peer.Addr())
				return
			}
			b.l.cfg.Memory.Add(limit.Handshakes, handshakeBytes) // the handshake that was closed gives back the same amount
		}
		secure, under := tls.Server(nc, b.l.cfg.TLS), b.handshakes.begin(nc)
		ctx, cancel := context.WithTimeout(b.ctx, handshakeTime)
		err := secure.HandshakeContext(ctx)
		cancel()
		b.handshakes.end(under)
		b.l.cfg.Memory.Add(limit.Handshakes, -handshakeBytes)
		if err != nil {
			if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && isHTTP(plain.RecordHeader[:]) {
				tellPlain(nc)
			}
			b.turnAway(nc, peer.Addr())
			return
		}
		nc = secure
	}
	p := newPeer(b, nc)
	if !b.post(func() { b.open(p, peer) }) {
		b.turnAway(nc, peer.Addr())
		return
	}
	p.readLoop()
}

// put gives a connection a slot in the loop's slab.
func (b *portable) put(p *peer) ID {
	p.id, _ = b.l.conns.alloc()
	slot := int(p.id.Slot())
	if slot == len(b.peers) {
		b.peers = append(b.peers, nil)
	}
	b.peers[slot] = p
	return p.id
}

func (b *portable) open(p *peer, addr netip.AddrPort) {
	id := b.put(p)
	b.l.stats.Accepted++
	b.l.stats.Open++
	b.l.handler.Opened(id, addr)
	p.readOn()
}

func (b *portable) adopt(nc net.Conn, unread []byte) (ID, error) {
	p := newPeer(b, nc)
	p.have, p.fresh = len(unread), len(unread) > 0
	p.buf = append(unread, p.buf...)
	id := b.put(p)
	b.wg.Go(p.readLoop)
	b.post(func() {
		if c := b.l.conns.get(id); c != nil {
			b.deliver(p, c)
		}
	})
	return id, nil
}

// got runs in the loop after a read. It takes the buffer back from the reader, with n more bytes
// and perhaps an error.
func (b *portable) got(p *peer, n int, err error) {
	p.lent = false
	c := b.l.conns.get(p.id)
	if c == nil {
		return
	}
	if n > 0 {
		b.l.stats.Reads++
		b.l.stats.ReadBytes += uint64(n)
	}
	p.have += n
	p.err = err
	p.fresh = n > 0
	b.deliver(p, c)
}

// deliver passes p's bytes to the handler and lends the buffer to the reader again. It does
// nothing while the connection is paused.
func (b *portable) deliver(p *peer, c *conn) {
	if c.paused {
		return
	}
	if p.fresh {
		p.fresh = false
		rest := b.l.receive(p.id, c, p.buf[:p.have])
		p.have = copy(p.buf, rest)
	}
	switch {
	case !c.open:
	case p.err != nil:
		if !c.paused {
			b.l.kill(p.id, c, p.err)
		}
	case !c.paused:
		p.readOn()
	}
}

func (b *portable) writable(p *peer) {
	if b.l.conns.get(p.id) != nil {
		b.l.handler.Writable(p.id)
	}
}

func (b *portable) failed(p *peer, err error) {
	if c := b.l.conns.get(p.id); c != nil {
		b.l.kill(p.id, c, err)
	}
}

func (b *portable) interest(id ID, c *conn) {
	if c.paused {
		return
	}
	p := b.peers[id.Slot()]
	b.post(func() {
		if c := b.l.conns.get(id); c != nil && !p.lent {
			p.fresh = p.fresh || p.have > 0
			b.deliver(p, c)
		}
	})
}

func (b *portable) write(id ID, c *conn, data []byte) int {
	n := b.peers[id.Slot()].write(data)
	b.l.stats.Writes++
	b.l.stats.WriteBytes += uint64(n)
	if n < len(data) {
		b.l.stats.ShortWrites++
	}
	return n
}

func (b *portable) closeWrite(id ID, _ *conn) { b.peers[id.Slot()].end(endWrite) }

func (b *portable) detach(id ID, _ *conn) (net.Conn, error) {
	p := b.peers[id.Slot()]
	if !p.idle() {
		return nil, errors.New("written bytes have not been sent yet")
	}
	b.peers[id.Slot()] = nil
	close(p.next)
	return p.nc, nil
}

func (b *portable) release(id ID, _ *conn, orderly bool) {
	p := b.peers[id.Slot()]
	b.peers[id.Slot()] = nil
	if orderly {
		p.end(endClose)
	} else {
		p.end(endNow)
	}
	close(p.next)
}

func (b *portable) stopAccepting() { b.group.ln.Close() }

func (b *portable) close() {
	b.stop()
	b.wg.Wait()
	b.timer.Stop()
}

func addrPortOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
