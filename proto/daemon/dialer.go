package daemon

import (
	"net"
	"time"
)

// dialer opens the TCP connections to NATS. It is safe for concurrent use.
type dialer struct{ net.Dialer }

// dialTime is the time limit for opening a connection.
const dialTime = 3 * time.Second

func newDialer() *dialer { return &dialer{net.Dialer{Timeout: dialTime}} }

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.Dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		return abortive{tcp}, nil
	}
	return conn, nil
}

// abortive is a connection whose Close discards the bytes that the peer has not received. Otherwise
// the kernel would try to deliver them for minutes. When a broken network works again, the peer
// could then execute an old command. Meanwhile the command may have been refused over another
// connection.
type abortive struct{ *net.TCPConn }

func (c abortive) Close() error {
	c.SetLinger(0)
	return c.TCPConn.Close()
}
