package client

import (
	"bufio"
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
	maxFrame     = 16 << 20 // largest accepted frame in bytes; gateways send only smaller ones
)

// link is the connection of one session. One goroutine reads from it, another one writes.
type link struct {
	number int
	conn   net.Conn
	heard  atomic.Int64           // when the last frame arrived, in Unix nanoseconds
	pinged atomic.Pointer[[]byte] // payload of the newest ping of the server that has no pong yet

	// Owned by the reader.
	r       *bufio.Reader
	partial []byte // the received part of a fragmented message; nil = no message is incomplete

	// Owned by the writer.
	ping time.Time // when the client sent a ping that has no answer yet; zero = no answer is missing
	buf  []byte    // frames that flush will send
}

// next reads the next frame. It returns a complete message, or nil if the frame was a control
// frame. After a close frame it returns a [*CloseError].
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
		return nil, fmt.Errorf("read frame: its %d bytes exceed the limit", h.Length)
	}
	p := make([]byte, h.Length)
	if _, err := io.ReadFull(l.r, p); err != nil {
		return nil, err
	}
	l.heard.Store(time.Now().UnixNano())
	switch h.OpCode {
	case ws.OpPing:
		l.pinged.Store(&p)
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

// watch sends a ping if the server has been silent for the duration quiet. If the server has then
// been silent for as long again, watch returns false. Otherwise it returns how long to wait before
// the next call of watch.
func (l *link) watch(now time.Time, quiet time.Duration) (alive bool, next time.Duration) {
	silent := now.Sub(time.Unix(0, l.heard.Load()))
	switch {
	case silent < quiet:
		l.ping = time.Time{}
		return true, quiet - silent
	case l.ping.IsZero():
		l.ping = now
		l.frame(ws.NewPingFrame(nil))
		return true, quiet
	}
	since := now.Sub(l.ping)
	return since < quiet, max(quiet-since, time.Millisecond)
}

// frame appends f, masked as RFC 6455 requires of clients, to the buffer that flush sends.
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
