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

// Handed is a connection that net/http has now. A proxy keeps connections and sends
// any request over any of them, so a WebSocket handshake may follow: then TakeBack
// gives the connection back to its loop. It counts as one of its address until it is
// closed, wherever it is. Its methods are safe from any goroutine.
type Handed struct {
	net.Conn
	ss   *Sessions
	peer netip.AddrPort
	once sync.Once
}

// Close closes the connection and ends its count.
func (c *Handed) Close() error {
	defer c.once.Do(func() { c.ss.caps.Close(c.peer.Addr()) })
	return c.Conn.Close()
}

// CloseWrite is what net/http looks for to end a connection politely.
func (c *Handed) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// TakeBack takes the connection of r away from net/http and has its loop answer the
// handshake that r is, as if r were the first request of the connection.
func TakeBack(w http.ResponseWriter, r *http.Request) error {
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	c, ok := nc.(*Handed)
	if !ok {
		nc.Close()
		return errors.New("the connection does not come from a loop")
	}
	nc.SetDeadline(time.Time{})
	unread := wire.AppendHead(nil, r)
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	unread = append(unread, early...)
	if !c.ss.loop.Post(func() { c.ss.takeBack(c, unread) }) {
		return c.Close()
	}
	return nil
}

func (ss *Sessions) takeBack(c *Handed, unread []byte) {
	id, err := ss.loop.Adopt(c.Conn, unread)
	if err != nil {
		ss.cfg.Log.Error("connection cannot be taken back from HTTP", "error", err)
		c.Close()
		return
	}
	c.once.Do(func() {}) // the session ends the count now
	s := ss.begin(id, c.peer)
	if ss.draining {
		ss.refuse(s, proto.Refuse(proto.Unavailable, "this gateway stops; try again"))
	}
}
