package loop

import "net"

// unreadConn is a detached connection. Its Read first returns the bytes that the loop had read
// already.
type unreadConn struct {
	net.Conn
	unread []byte
}

func (c *unreadConn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 {
		c.unread = nil
	}
	return n, nil
}

// CloseWrite exists for net/http, which closes its side of a connection for writing before it
// closes the connection.
func (c *unreadConn) CloseWrite() error { return CloseWrite(c.Conn) }

// CloseWrite closes this side of a connection for writing, if the connection supports it.
func CloseWrite(nc net.Conn) error {
	if c, ok := nc.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
