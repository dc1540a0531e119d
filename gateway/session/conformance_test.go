package session_test

import (
	"testing"

	"roomcast/gateway/wire"
	"roomcast/gateway/wire/wiretest"
)

// The protocol suite runs against /echo, through the reader, the queue and the close of
// every other session.
func TestProtocolSuite(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, func(s *settings) {
			s.session.Conformance, s.session.Compress = true, true
			s.loop.MaxPending = 40 << 20
		})
		wiretest.Run(t, wiretest.Target{Addr: g.addr, Path: "/echo", Deflate: true, Limits: wire.Limits{Message: 16 << 20, Fragments: 1 << 20}})
	})
}

// A verbatim room gives back through NATS exactly what was sent.
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
