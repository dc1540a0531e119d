package daemon

import (
	"net"
	"sync"
	"sync/atomic"
)

// maxOpsConns limits the connections of the listener for operators. The others need descriptors
// too, above all the log.
const maxOpsConns = 32

// fewConns is a listener that closes connections beyond maxOpsConns at once.
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

// countedConn calls closed on the first Close.
type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
