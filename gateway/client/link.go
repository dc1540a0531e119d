package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"roomcast/proto"
)

const (
	writeTimeout = 10 * time.Second
	maxFrame     = 16 << 20 // bytes; more than any gateway sends
)

// link is one connection with a session on it. Its reader is Client.run's goroutine, its
// writer tend; both are awaited by session.
type link struct {
	number int
	conn   net.Conn
	r      *bufio.Reader
	heard  atomic.Int64           // UnixNano of the last frame
	pong   atomic.Pointer[[]byte] // what the newest unanswered ping said

	// Owned by the reader.
	partial []byte // of a fragmented message; nil between messages

	// Owned by tend.
	pinged time.Time // zero if the last ping was answered
	buf    []byte    // what flush will write
}

// session holds one connection from dial to end. It reports whether a session stood.
func (c *Client) session(ctx context.Context, base string, up *chan struct{}) (stood bool, err error) {
	c.mu.Lock()
	number, resume := c.stats.Links+1, c.hello.Resume
	c.mu.Unlock()
	l, err := c.open(ctx, number, base, resume)
	if err != nil {
		return false, err
	}
	unblock := context.AfterFunc(ctx, func() { l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer unblock()
	defer l.conn.Close()

	l.conn.SetReadDeadline(time.Now().Add(dialTimeout))
	p, err := l.next()
	if err != nil {
		return false, fmt.Errorf("read hello: %w", err)
	}
	in, err := parseFrame(p)
	if err != nil || in.Hello == nil {
		return false, errors.New("read hello: the first frame is none")
	}
	c.trace(c.cfg.Trace.Received, number, p)
	l.conn.SetReadDeadline(time.Time{})
	if ctx.Err() != nil { // the deadline of the cancelled context may just have been undone
		return false, ctx.Err()
	}

	c.attach(l, *in.Hello)
	if *up != nil {
		close(*up)
		*up = nil
	}
	quit, tended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(tended)
		c.tend(ctx, l, quit)
	}()
	err = c.read(l)
	close(quit)
	<-tended
	c.detach()
	if c.cfg.Trace.Ended != nil {
		c.cfg.Trace.Ended(number, err)
	}
	return true, err
}

// next returns the next text message, or nil after a control frame. A close frame ends with
// a [*CloseError].
func (l *link) next() ([]byte, error) {
	h, err := ws.ReadHeader(l.r)
	if err != nil {
		return nil, err
	}
	state := ws.StateClientSide
	if l.partial != nil {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return nil, err
	}
	if h.Length > maxFrame-int64(len(l.partial)) {
		return nil, fmt.Errorf("read frame: %d bytes are too many", h.Length)
	}
	p := make([]byte, h.Length)
	if _, err := io.ReadFull(l.r, p); err != nil {
		return nil, err
	}
	l.heard.Store(time.Now().UnixNano())
	switch h.OpCode {
	case ws.OpPing:
		l.pong.Store(&p)
		return nil, nil
	case ws.OpPong:
		return nil, nil
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(p)
		if len(p) < 2 {
			code = ws.StatusNoStatusRcvd
		}
		return nil, &CloseError{Code: proto.CloseCode(code), Reason: reason}
	}
	if !h.Fin || l.partial != nil {
		p = append(l.partial, p...)
		l.partial = p
	}
	if !h.Fin {
		return nil, nil
	}
	l.partial = nil
	return p, nil
}

// read takes what the server sends until the connection ends.
func (c *Client) read(l *link) error {
	for {
		p, err := l.next()
		if err != nil {
			return err
		}
		if p == nil {
			signal(c.wake)
			continue
		}
		c.trace(c.cfg.Trace.Received, l.number, p)
		if err := c.receive(p); err != nil {
			return err
		}
	}
}

// tend writes: whatever the client's state says is to be sent, pongs, pings when the
// server has been silent. It closes the connection when the server does not answer, when
// ctx ends, and when quit is closed.
func (c *Client) tend(ctx context.Context, l *link, quit chan struct{}) {
	defer l.conn.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
			l.flush()
			return
		case <-quit:
			return
		case <-c.wake:
		case <-timer.C:
		}
		now := time.Now()
		wait, patient := c.pump(l, now)
		if p := l.pong.Swap(nil); p != nil {
			l.frame(ws.NewPongFrame(*p))
		}
		alive, next := l.watch(now, c.cfg.Quiet)
		if !patient || !alive || l.flush() != nil {
			return
		}
		timer.Reset(min(wait, next))
	}
}

// watch pings a silent server and reports whether it still counts as alive, and when to
// look again.
func (l *link) watch(now time.Time, quiet time.Duration) (alive bool, next time.Duration) {
	silent := now.Sub(time.Unix(0, l.heard.Load()))
	switch {
	case silent < quiet:
		l.pinged = time.Time{}
		return true, quiet - silent
	case l.pinged.IsZero():
		l.pinged = now
		l.frame(ws.NewPingFrame(nil))
		return true, quiet
	}
	since := now.Sub(l.pinged)
	return since < quiet, max(quiet-since, time.Millisecond)
}

// frame appends f, masked, to what flush will write.
func (l *link) frame(f ws.Frame) {
	w := appender{&l.buf}
	f = ws.MaskFrame(f)
	ws.WriteFrame(w, f) // an appender does not fail
}

type appender struct{ buf *[]byte }

func (a appender) Write(p []byte) (int, error) {
	*a.buf = append(*a.buf, p...)
	return len(p), nil
}

func (l *link) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := l.conn.Write(l.buf)
	l.buf = l.buf[:0]
	return err
}

func (c *Client) trace(f func(int, []byte), link int, p []byte) {
	if f != nil {
		f(link, p)
	}
}
