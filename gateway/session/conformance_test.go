package session_test

import (
	"testing"

	"roomcast/gateway/wire"
	"roomcast/gateway/wire/wiretest"
)

// The protocol suite runs against /echo. There the reader, the queue and the close are the same
// code as in all other sessions.
func TestProtocolSuite(t *testing.T) {
	limits := wire.Limits{Message: 64 << 10, Fragments: 2000}
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, func(s *settings) {
			s.session.Conformance, s.session.Compress = true, true
			s.session.Wide = limits
		})
		wiretest.Run(t, wiretest.Target{Addr: g.addr, Path: "/echo", Deflate: true, Limits: limits})
	})
}

// A verbatim room returns each message exactly as it was sent. The messages go through NATS.
func TestVerbatimRoom(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Conformance = true })
	c := g.text("/verbatim/suite/")
	for _, m := range []string{"plain", "", "你好"} {
		c.send(m)
		c.want(m)
	}
	c.write(maskedFrame(0x82, "\x00\x01"))
	c.want("\x00\x01")
}
