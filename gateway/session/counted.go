package session

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"roomcast/gateway/wire"
	"roomcast/proto"
)

// CountedConn is a connection that net/http serves. It counts for its address until it is closed,
// no matter who serves it. A proxy keeps connections and sends any request over any of them. So a
// later request may begin a session: then [TakeBack] returns the connection to its loop. Its
// methods are safe for concurrent use.
type CountedConn struct {
	net.Conn
	lc   *lifecycle
	peer netip.AddrPort
	once sync.Once
}

// Close closes the connection and ends its count.
func (c *CountedConn) Close() error {
	defer c.once.Do(func() { c.lc.caps.Close(c.peer.Addr()) })
	return c.Conn.Close()
}

// CloseWrite ends our side of the connection, as net/http does before it closes one.
func (c *CountedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// TakeBack takes the connection of r away from net/http. Its loop then answers r, as if r were the
// first request of the connection.
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

// hijack takes a connection away from net/http. Early is what net/http has read from it but not
// used.
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
		lc.refuse(s, proto.Refuse(proto.Unavailable, "this gateway stops; try again"))
	}
}

// adopt gives the connection back to its loop, on which it must be called. It returns nil if it had
// to close the connection.
func (c *CountedConn) adopt(unread []byte) *session {
	id, err := c.lc.loop.Adopt(c.Conn, unread)
	if err != nil {
		c.lc.cfg.Log.Error("take connection back from HTTP", "error", err)
		c.Close()
		return nil
	}
	c.once.Do(func() {}) // the session ends the count now
	return c.lc.open(id, c.peer)
}
