package session_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/wire/wstest"
)

// client is a WebSocket client that can send arbitrary bytes, valid or not.
type client struct {
	t    testing.TB
	nc   net.Conn
	r    *bufio.Reader
	chop int // the most bytes of one write; 0 = no limit
}

func handshakeOf(path, protocol string) string {
	if protocol != "" {
		protocol = "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	return wstest.Request(path, "localhost", protocol)
}

func (g *gateway) connect() *client {
	g.t.Helper()
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { nc.Close() })
	return &client{t: g.t, nc: nc, r: bufio.NewReader(nc)}
}

// text opens a text session. The method json opens a JSON session.
func (g *gateway) text(path string) *client { return g.open(path, "") }
func (g *gateway) json(path string) *client { return g.open(path, "roomcast.v1") }

func (g *gateway) open(path, protocol string) *client {
	g.t.Helper()
	c := g.connect()
	c.write([]byte(handshakeOf(path, protocol)))
	if got := c.status(); got != http.StatusSwitchingProtocols {
		g.t.Fatalf("%s: got status %d, want 101", path, got)
	}
	return c
}

// status reads the answer to a handshake and returns its HTTP status.
func (c *client) status() int {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read answer to handshake: %v", err)
	}
	return res.StatusCode
}

func (c *client) write(p []byte) {
	c.t.Helper()
	step := c.chop
	if step == 0 {
		step = len(p)
	}
	for len(p) > 0 {
		n := min(step, len(p))
		if _, err := c.nc.Write(p[:n]); err != nil {
			c.t.Errorf("write: %v", err)
			return
		}
		p = p[n:]
	}
}

func maskedFrame(head byte, payload string) []byte {
	return wstest.AppendMasked(nil, head, []byte(payload))
}

func (c *client) send(text string) { c.t.Helper(); c.write(maskedFrame(0x81, text)) }

// message is a frame that the server has sent.
type message struct {
	op   byte
	body string
	code int // the code, if it is a close frame
}

func (m message) String() string {
	if m.op == wstest.Close {
		return fmt.Sprintf("close %d %s", m.code, m.body)
	}
	return m.body
}

// read returns the next frame, or the error that ended the connection.
func (c *client) read() (m message, err error) {
	first, body, err := wstest.Read(c.r)
	if err == nil && first&0xF0 != wstest.Fin {
		c.t.Fatalf("got a frame whose first byte is %x", first)
	}
	m = message{op: first & 15, body: string(body)}
	if m.op == wstest.Close && len(body) >= 2 {
		m.code, m.body = int(binary.BigEndian.Uint16(body)), string(body[2:])
	}
	return m, err
}

// next returns the next frame, but skips notices of joins and leaves.
func (c *client) next() string {
	c.t.Helper()
	for {
		c.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		m, err := c.read()
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		if !strings.Contains(m.body, `"joined":`) && !strings.Contains(m.body, `"left":`) {
			return m.String()
		}
	}
}

// want reads one frame and compares it with a pattern, in which * stands for any text.
func (c *client) want(pattern string) string {
	c.t.Helper()
	got := c.next()
	if !matches(pattern, got) {
		c.t.Fatalf("got %s, want %s", got, pattern)
	}
	return got
}

func matches(pattern, got string) bool {
	parts := strings.Split(pattern, "*")
	got, ok := strings.CutPrefix(got, parts[0])
	for i, part := range parts[1:] {
		switch {
		case !ok:
			return false
		case i == len(parts)-2:
			return strings.HasSuffix(got, part)
		}
		_, got, ok = strings.Cut(got, part)
	}
	return ok && got == ""
}

// ended waits for the end of the connection. It fails if a frame arrives before.
func (c *client) ended() {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	if m, err := c.read(); err == nil {
		c.t.Fatalf("got %s, want the end of the connection", m)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("the connection does not end")
	}
}

// silent fails if a frame has arrived, other than notices of joins and leaves.
func (c *client) silent() {
	c.t.Helper()
	c.write(maskedFrame(0x89, "silent?"))
	if got := c.next(); got != "silent?" {
		c.t.Fatalf("got %s, want nothing but a pong", got)
	}
}
