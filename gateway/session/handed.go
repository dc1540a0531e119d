package session

import (
	"net"
	"sync"
)

// handed is a connection that net/http has now. Done is called when it is closed.
type handed struct {
	net.Conn
	done func()
	once sync.Once
}

func (c *handed) Close() error {
	defer c.once.Do(c.done)
	return c.Conn.Close()
}

// CloseWrite is what net/http looks for to end a connection politely.
func (c *handed) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
