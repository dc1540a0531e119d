package daemon

import (
	"net"
	"sync"
	"sync/atomic"
)

// maxOpsConns bounds the connections to the listener for operators. Every connection needs a
// file descriptor, and the rest of the process needs descriptors too.
const maxOpsConns = 32

// fewConns is a listener that accepts up to maxOpsConns connections at a time. It closes further
// connections at once.
type fewConns struct {
	net.Listener
	open atomic.Int32
}

func (l *fewConns) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= maxOpsConns {
			return &countedConn{Conn: c, closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		c.Close()
	}
}

// countedConn is a connection that calls closed when it is closed for the first time.
type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
