package session

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// CountedConn is a connection that net/http serves. While it is open, it counts as a connection
// of its address, as a session does. A proxy keeps connections open and sends requests of many
// clients over each. So a later request on the connection may begin a session. Then [TakeBack]
// returns the connection to its loop. The methods of a CountedConn are safe for concurrent use.
type CountedConn struct {
	net.Conn
	lc   *lifecycle
	peer netip.AddrPort
	once sync.Once
}

// Close closes the connection. From the first call on, the connection no longer counts for its
// address.
func (c *CountedConn) Close() error {
	defer c.once.Do(func() { c.lc.caps.Close(c.peer.Addr()) })
	return c.Conn.Close()
}

// CloseWrite closes our side of the connection for writing. The package net/http calls it before
// it closes a connection.
func (c *CountedConn) CloseWrite() error { return loop.CloseWrite(c.Conn) }

// TakeBack takes the connection of the request r back from net/http. The connection's loop then
// answers r as if it were the first request of the connection.
func TakeBack(w http.ResponseWriter, r *http.Request) error {
	c, early, err := hijack(w)
	if err != nil {
		return err
	}
	unread := append(wire.AppendHead(nil, r), early...)
	if !c.lc.loop.Post(func() { c.lc.takeBack(c, unread) }) {
		return c.Close()
	}
	return nil
}

// hijack takes a connection back from net/http. The result early contains the bytes that net/http
// has read from the connection but not used.
func hijack(w http.ResponseWriter) (c *CountedConn, early []byte, err error) {
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c, ok := nc.(*CountedConn)
	if !ok {
		nc.Close()
		return nil, nil, errors.New("the connection does not come from a loop")
	}
	nc.SetDeadline(time.Time{})
	early, _ = buffered.Reader.Peek(buffered.Reader.Buffered())
	return c, early, nil
}

func (lc *lifecycle) takeBack(c *CountedConn, unread []byte) {
	if s := c.adopt(unread); s != nil && lc.draining {
		lc.refuse(s, proto.Refuse(proto.Unavailable, "this gateway is stopping; try again"))
	}
}

// adopt gives the connection back to its loop. The loop's goroutine must call it. If the loop
// cannot accept the connection, adopt closes it and returns nil.
func (c *CountedConn) adopt(unread []byte) *session {
	id, err := c.lc.loop.Adopt(c.Conn, unread)
	if err != nil {
		c.lc.cfg.Log.Error("take connection back from HTTP", "error", err)
		c.Close()
		return nil
	}
	c.once.Do(func() {}) // Close no longer ends the count; the end of the session does
	return c.lc.open(id, c.peer)
}
