package wiretest

import (
	"errors"
	"net/netip"
	"time"

	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
)

// Echo is a small [loop.Handler] that upgrades every request to WebSocket and sends each message
// back. The suite's own test uses it. It also shows how packages loop and wire are used
// together.
type Echo struct {
	Loop    *loop.Loop
	Limits  wire.Limits
	Deflate bool // agree to permessage-deflate

	conns    map[loop.ID]*echoConn
	inflater wire.Inflater
	deflater wire.Deflater
}

type echoConn struct {
	open   bool // the handshake was answered
	ending bool // the last frame is in out
	reader wire.Reader
	out    []byte // bytes that were not written yet
}

const (
	maxOut     = 1 << 20     // with this many bytes in out, the connection is not read
	lastChance = time.Second // how long the peer has to receive the last frame and to close the connection
)

func (e *Echo) Opened(id loop.ID, _ netip.AddrPort) {
	if e.conns == nil {
		e.conns = map[loop.ID]*echoConn{}
	}
	e.conns[id] = &echoConn{}
}

func (e *Echo) Received(id loop.ID, p []byte) (used int) {
	c := e.conns[id]
	defer e.flush(id, c)
	if !c.open && !c.ending {
		req, n, err := wire.ParseRequest(p, wire.MaxRequest)
		used = n
		var refusal *wire.Refusal
		switch {
		case errors.As(err, &refusal):
			c.out, c.ending = wire.AppendRefusal(c.out, refusal), true
		case n == 0:
			return 0
		case !req.Upgrade:
			c.out, c.ending = wire.AppendRefusal(c.out, &wire.Refusal{Status: 404, Reason: "only WebSocket here"}), true
		default:
			c.open, c.reader.Framing = true, req.Framing(e.Deflate)
			c.out = req.AppendAccept(c.out, "", c.reader.Framing)
		}
	}
	for c.open && !c.ending && used < len(p) {
		f, n, err := c.reader.Next(p[used:], &e.Limits)
		used += n
		if err == nil && f.Op == 0 {
			return used
		}
		if err == nil {
			err = e.answer(c, f)
		}
		var broken *wire.Error
		if errors.As(err, &broken) {
			c.out, c.ending = wire.AppendClose(c.out, broken.Close, broken.Reason), true
		}
	}
	if c.ending {
		return len(p)
	}
	return used
}

func (e *Echo) answer(c *echoConn, f wire.Frame) (err error) {
	p := f.Payload
	if f.Deflated {
		if p, err = e.inflater.Inflate(f, &e.Limits); err != nil {
			return err
		}
	}
	switch f.Op {
	case wire.OpPing:
		c.out = wire.AppendFrame(c.out, wire.OpPong, p)
	case wire.OpClose:
		c.out, c.ending = wire.AppendClose(c.out, f.Close, string(p)), true
	case wire.OpText, wire.OpBinary:
		if c.reader.Framing == wire.Deflated {
			c.out = e.deflater.AppendDeflated(c.out, f.Op, p)
		} else {
			c.out = append(wire.AppendHeader(c.out, f.Op, len(p)), p...)
		}
	}
	return nil
}

// flush writes as many bytes of out as the socket accepts. After the last frame it ends the
// connection.
func (e *Echo) flush(id loop.ID, c *echoConn) {
	c.out = c.out[e.Loop.Write(id, c.out):]
	switch {
	case len(c.out) > maxOut:
		e.Loop.Pause(id)
	case len(c.out) > 0:
	case c.ending: // keep reading: if bytes stayed unread, TCP would reset the connection, and the peer might lose our last frame
		e.Loop.CloseWrite(id)
		e.Loop.SetDeadline(id, lastChance)
	default:
		c.out = nil
		e.Loop.Resume(id)
	}
}

func (e *Echo) Writable(id loop.ID)      { e.flush(id, e.conns[id]) }
func (e *Echo) Due(id loop.ID)           { e.Loop.Close(id) }
func (e *Echo) Gone(id loop.ID, _ error) { delete(e.conns, id) }
func (e *Echo) Turn() bool               { return false }
