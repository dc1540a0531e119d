package service

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// deafConn is a connection to the server. After a test has made the connection deaf, it passes on
// no received bytes, but still sends.
type deafConn struct {
	net.Conn
	deaf *atomic.Bool
}

func (c deafConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.deaf.Load() {
			return n, err
		}
	}
}

// deafDialer opens connections. The first one is a deafConn.
type deafDialer struct {
	once sync.Once
	deaf atomic.Bool
}

func (d *deafDialer) Dial(network, address string) (net.Conn, error) {
	nc, err := net.Dial(network, address)
	if err == nil {
		d.once.Do(func() { nc = deafConn{nc, &d.deaf} })
	}
	return nc, err
}

// The log keeps fewer records of a room than a partition may have in flight (records sent to the
// stream without an ack). After the loss of the commit connection, senders resend the messages in
// flight. The owner must recognise them.
func TestShortHistoryRecognisesMessagesInFlight(t *testing.T) {
	srv := startNATS(t, true)
	var way deafDialer
	_, stop := startService(t, srv, func(c *Config) {
		c.HistoryPerRoom = proto.PageSize
		dial := c.Dial
		c.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			if strings.HasSuffix(name, "/commit") {
				opts = append(opts, nats.SetCustomDialer(&way))
			}
			return dial(name, opts...)
		}
	})
	defer stop()
	nc := srv.Connect(t)
	say(t, nc, "lobby", "u", "first", "hi")
	way.deaf.Store(true)
	const senders = 300
	var group sync.WaitGroup
	for i := range senders {
		group.Go(func() {
			for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
				got, err := nc.RequestMsg(message("lobby", fmt.Sprint("s", i), "k", "once"), 4*time.Second)
				if err != nil {
					continue
				}
				if r, err := proto.ParseReply(got.Data); err == nil && r.Seq > 0 {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			t.Errorf("sender %d is not answered", i)
		})
	}
	group.Wait()
	records := readLog(t, srv, proto.MustRoom("lobby"))
	if last := records[len(records)-1].Seq; last != senders+1 {
		t.Errorf("the last message has seq %d, want %d", last, senders+1)
	}
}
