package stream

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// deafConn is a connection that can hold back answers.
type deafConn struct {
	net.Conn
	ears sync.RWMutex // locked for writing while the connection holds back answers
}

func (c *deafConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.ears.RLock()
	defer c.ears.RUnlock()
	return n, err
}

type deafDialer struct{ last *deafConn }

func (d *deafDialer) Dial(network, address string) (net.Conn, error) {
	nc, err := net.Dial(network, address)
	d.last = &deafConn{Conn: nc}
	return d.last, err
}

// A server without space for a record may still have space for a smaller record after it. After the
// refusal of a record, the stream must not contain a later record of the same room. This must be
// true on a new connection, and on a connection that has seen a refusal before.
func TestFullServerLeavesNoHoles(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.JetStreamMaxStore = 4 << 20 })
	nc := s.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var way deafDialer
	cfg := config(s)
	cfg.Deadline *= 10
	cfg.Dial = func(opts ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(s.ClientURL(), append(opts, nats.SetCustomDialer(&way), nats.Name("commit"))...)
	}
	if err := Ensure(t.Context(), nc, cfg); err != nil {
		t.Fatal(err)
	}
	bulk, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BULK", Subjects: []string{"bulk"}})
	if err != nil {
		t.Fatal(err)
	}
	fill := func() {
		natstest.Eventually(t, "the server to be full", func() bool {
			_, err := js.Publish(t.Context(), "bulk", bytes.Repeat([]byte("x"), 256<<10))
			return err != nil
		})
	}
	free := func() {
		if err := bulk.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func() (n int64) {
		conns, err := s.Connz(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range conns.Conns {
			if c.Name == "commit" {
				n = c.InMsgs
			}
		}
		return n
	}
	c := NewCommitter(cfg)
	t.Cleanup(c.Close)
	room := proto.MustRoom("lobby")
	say := func(f *Fence, seq uint64) {
		if err := f.Append(record(room, seq)); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(h *heard) {
		natstest.Eventually(t, "the refusal", func() bool { _, err := h.state(); return errors.Is(err, ErrUnavailable) })
	}

	check := func() {
		t.Helper()
		take(t, c, room.Partition(), "a", new(heard)) // with the new fence, records that were sent under the old one cannot reach the log any more
		log, err := js.Stream(t.Context(), proto.StreamName)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := log.GetLastMsgForSubject(t.Context(), room.LogSubject()); !errors.Is(err, jetstream.ErrMsgNotFound) {
			t.Errorf("got record %v, %v, want none: record 1 was refused", got, err)
		}
	}
	// refuseFirst makes the server refuse the first record and store the later ones.
	refuseFirst := func() {
		t.Helper()
		h := new(heard)
		f := take(t, c, room.Partition(), "a", h)
		fill()
		way.last.ears.Lock()
		was := arrived()
		say(f, 1)
		natstest.Eventually(t, "the record to arrive", func() bool { return arrived() > was })
		fill() // the server has no space for the records of fill and refuses them
		free()
		say(f, 2)
		way.last.ears.Unlock()
		refused(h)
		check()
	}
	refuseFirst()
	h := new(heard)
	f := take(t, c, room.Partition(), "a", h)
	fill()
	say(f, 1)
	refused(h)
	free()
	refuseFirst()
}
